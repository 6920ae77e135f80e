//! The one test binary over the whole tree.

mod tidy;
