//! Tests over several modules.

mod golden;
