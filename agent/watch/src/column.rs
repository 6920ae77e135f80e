//! One column of the input: its quality, its distribution in windows, and its drift row by row.
