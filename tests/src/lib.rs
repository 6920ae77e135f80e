

pub mod demo;
