//! What the zoo and the benchmarks share: a real agent that serves one package, plain connections to a
//! server, the protocol's requests as bytes, and what a process costs.
//!
//! All of it blocks: a client that waits for its one answer measures the server and not itself.

mod ask;
mod conn;
mod cost;
mod quantile;
mod solo;

pub use ask::{Form, read_answer, request};
pub use conn::{Conn, Reply};
pub use cost::{Memory, cpu, load_average, peak_bytes};
pub use quantile::{Times, median};
pub use solo::{Child, MODEL, Solo, pack};
