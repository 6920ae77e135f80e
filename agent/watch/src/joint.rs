//! All columns together: multivariate drift, outlying rows, and which columns moved.
