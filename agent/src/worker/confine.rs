//! A process that looks at a file from elsewhere: from here on it opens nothing any more.
//!
//! With no file descriptor to be had there is no socket, file or pipe for anyone in the process; its
//! answer goes out through the pipe that it was given. Nothing here is a kernel sandbox: a process that
//! runs foreign machine code would find other ways. It holds against what a parser or engine can be
//! talked into.

use super::WorkerError;
use super::limits::{Limits, set};
use rustix::process::{
    DumpableBehavior, Resource, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The program's own pages that are not touched yet when a process is confined: counted as used.
const UNTOUCHED_BYTES: u64 = 24 << 20;
/// Stack of the child: half of what the server's threads have, or a model that passes here could use up
/// theirs.
const STACK_BYTES: u64 = 1 << 20;
/// Where `/proc` is not to be had: the address space of the program itself, of which a debug build maps
/// the most.
const PROGRAM_BYTES: u64 = 256 << 20;
/// The text of `/proc/self/status` at most.
const MAX_STATUS_BYTES: usize = 8 * 1024;

/// Ends with its parent, is not traced, and leaves no core. To be called first.
pub(super) fn bind_to_parent() -> Result<(), WorkerError> {
    let fail = |what| move |cause: rustix::io::Errno| WorkerError::Limit { what, source: cause.into() };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(fail("life beyond the parent's"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(fail("tracing"))
}

/// A confined process, as it sees itself.
#[derive(Debug)]
pub(super) struct Confined {
    status: Option<File>,
    /// Most memory so far when it was confined, in bytes; zero where `/proc` is not to be had.
    pub(super) start_bytes: u64,
    /// How much it may use at most.
    pub(super) memory_bytes: u64,
}

impl Confined {
    /// Confines this process for good.
    ///
    /// The address space is limited to what is mapped now and what is left of the memory: most of what is
    /// mapped (the program, its debug symbols) is never touched, and `memory_bytes` is of what is.
    pub(super) fn enter(limits: &Limits) -> Result<Self, WorkerError> {
        let status = File::open("/proc/self/status").ok();
        let read = |name| status.as_ref().and_then(|file| bytes_of(file, name));
        let space = match (read("VmSize:"), read("VmRSS:")) {
            (Some(mapped), Some(used)) => {
                let left = limits.memory_bytes.saturating_sub(used).saturating_sub(UNTOUCHED_BYTES);
                mapped.saturating_add(left)
            }
            _ => limits.memory_bytes.saturating_add(PROGRAM_BYTES),
        };
        let start_bytes = read("VmHWM:").unwrap_or_default();
        set("memory", Resource::As, space, 0)?;
        set("stack", Resource::Stack, STACK_BYTES, 0)?;
        set("processes", Resource::Nproc, 0, 0)?;
        set("open files", Resource::Nofile, 0, 0)?;
        Ok(Self { status, start_bytes, memory_bytes: limits.memory_bytes })
    }

    /// Most memory so far, in bytes, as the kernel counted it.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        bytes_of(self.status.as_ref()?, "VmHWM:")
    }
}

/// A figure of this process's memory as the kernel counts it; zero where `/proc` is not to be had.
pub(crate) fn resident_bytes(name: &str) -> u64 {
    File::open("/proc/self/status").ok().and_then(|status| bytes_of(&status, name)).unwrap_or_default()
}

/// A figure of `/proc/self/status`, which the kernel writes anew whenever it is read from its beginning.
fn bytes_of(status: &File, name: &str) -> Option<u64> {
    let mut text = [0; MAX_STATUS_BYTES];
    let read = loop {
        match status.read_at(&mut text, 0) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            other => break other.ok()?,
        }
    };
    let text = std::str::from_utf8(text.get(..read)?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::process::Command;

    /// Set in the process that is confined: this very test, started again.
    const INSIDE: &str = "SHOAL_TEST_CONFINED";
    const NAME: &str = "worker::confine::tests::a_confined_process_opens_nothing";

    #[test]
    fn a_confined_process_opens_nothing() {
        if let Some(address) = std::env::var_os(INSIDE) {
            let address = address.into_string().unwrap();
            drop(TcpStream::connect(&address).unwrap());
            bind_to_parent().unwrap();
            let confined = Confined::enter(&Limits::ADMIT.for_model(0)).unwrap();
            let none_left = |cause: io::Error| {
                assert_eq!(cause.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{cause}");
            };
            none_left(TcpStream::connect(&address).unwrap_err());
            none_left(UdpSocket::bind("127.0.0.1:0").unwrap_err());
            none_left(File::open("/proc/self/status").unwrap_err());
            none_left(File::create("/tmp/shoal-confined").unwrap_err());
            // A privileged process may start another, which then cannot open its own libraries.
            assert!(!Command::new("/bin/true").status().is_ok_and(|status| status.success()));
            assert!(Vec::<u8>::new().try_reserve_exact(256 << 20).is_err(), "memory has a limit");
            let mut some = vec![1_u8; 64 << 20];
            some.push(1);
            let peak = confined.peak_bytes().unwrap();
            assert!(peak > confined.start_bytes + (60 << 20) && peak < 256 << 20, "{peak} {}", some.len());
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--test-threads=1"])
            .env(INSIDE, listener.local_addr().unwrap().to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    }
}
