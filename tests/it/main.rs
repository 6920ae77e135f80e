//! The one test binary over the whole tree.

mod sim;
mod tidy;
