//! The one test binary over the whole tree.

mod e2e;
mod sim;
mod tidy;
