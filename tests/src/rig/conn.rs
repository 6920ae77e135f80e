//! One connection that is kept, and no more of HTTP/1.1 than an answer with a length needs.

use anyhow::{Context as _, bail, ensure};
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer: a benchmark that hangs is worse than one that fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is read at once.
const CHUNK: usize = 64 * 1024;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection.
pub struct Conn {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    filled: usize,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// 200 …
    pub status: u16,
    /// Where the JSON ends, when raw tensors follow.
    pub json_length: Option<usize>,
    /// The rest.
    pub body: &'a [u8],
}

impl Conn {
    /// Connects over TCP.
    pub fn tcp(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::new(Box::new(stream)))
    }

    /// Connects over a unix socket.
    pub fn unix(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("failed to connect to `{}`", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::new(Box::new(stream)))
    }

    fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, buffer: vec![0; CHUNK], filled: 0 }
    }

    /// Sends a whole request and reads the whole answer.
    pub fn ask(&mut self, request: &[u8]) -> anyhow::Result<Reply<'_>> {
        self.stream.write_all(request)?;
        self.filled = 0;
        let mut seen = 0;
        let head_end = loop {
            self.more()?;
            let from = seen;
            seen = self.filled.saturating_sub(3);
            if let Some(at) = find(&self.buffer[from..self.filled], b"\r\n\r\n") {
                break from + at + 4;
            }
        };
        let head = Head::parse(&self.buffer[..head_end])?;
        let end = head_end + head.length;
        while self.filled < end {
            self.more()?;
        }
        ensure!(self.filled == end, "the server sent more than its answer");
        let body = &self.buffer[head_end..end];
        Ok(Reply { status: head.status, json_length: head.json_length, body })
    }

    fn more(&mut self) -> anyhow::Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        let got = self.stream.read(&mut self.buffer[self.filled..])?;
        ensure!(got > 0, "the server closed the connection");
        self.filled += got;
        Ok(())
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

struct Head {
    status: u16,
    length: usize,
    json_length: Option<usize>,
}

impl Head {
    fn parse(head: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(head)?;
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (mut length, mut json_length) = (None, None);
        for line in text.lines().skip(1) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("inference-header-content-length") {
                json_length = value.parse().ok();
            }
        }
        match (status, length) {
            (Some(status), Some(length)) => Ok(Self { status, length, json_length }),
            _ => bail!("an answer without status or length: {}", text.lines().next().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn answered(parts: &'static [&'static [u8]]) -> anyhow::Result<(u16, Option<usize>, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).unwrap();
            for part in parts {
                stream.write_all(part).unwrap();
            }
        });
        let mut conn = Conn::tcp(address).unwrap();
        let reply = conn.ask(b"GET.").map(|reply| (reply.status, reply.json_length, reply.body.to_vec()));
        server.join().unwrap();
        reply
    }

    #[test]
    fn an_answer_is_read_whole_however_it_comes() {
        let whole: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"];
        assert_eq!(answered(whole).unwrap(), (200, None, b"abc".to_vec()));
        let split: &[&[u8]] = &[
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r",
            b"\ninference-header-content-length: 1\r\n",
            b"\r",
            b"\na",
            b"b",
        ];
        assert_eq!(answered(split).unwrap(), (404, Some(1), b"ab".to_vec()));
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_an_error() {
        const BROKEN: [&[&[u8]]; 3] = [&[b"HTTP/1.1 200 OK\r\n\r\n"], &[b"HTTP/1.1 200"], &[]];
        for parts in BROKEN {
            assert!(answered(parts).is_err(), "{parts:?}");
        }
    }
}
