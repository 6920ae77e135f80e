//! A network interface whose packets this process reads and writes.
#![expect(unsafe_code, reason = "the system call that makes a file an interface has no safe form")]

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, read, write};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Largest packet. Below Ethernet's, as tunnels have it.
pub(super) const MTU: usize = 1_400;

/// The process's end of an interface, which lasts as long as this.
#[derive(Debug)]
pub(super) struct Tun {
    end: AsyncFd<OwnedFd>,
}

impl Tun {
    /// Makes an interface of this name in this process's namespace, from where it can be moved.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let end = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
        attach(&end, name)?;
        // SAFETY: an `OwnedFd` is the same open descriptor for as long as it lives.
        Ok(Self { end: unsafe { AsyncFd::register(end)? } })
    }

    /// The next packet that the namespace sends.
    pub(super) async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.end.async_io(Interest::READABLE, |end| Ok(read(end, &mut *into)?)).await
    }

    /// Hands the namespace a packet. One that it does not take is lost, as on any network.
    pub(super) async fn write(&self, packet: &[u8]) -> io::Result<()> {
        let written = self.end.async_io(Interest::WRITABLE, |end| Ok(write(end, packet)?)).await;
        match written {
            // The interface is not up yet, or a packet was no packet.
            Err(cause) if cause.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(()),
            Err(cause) if cause.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            other => other.map(drop),
        }
    }
}

fn attach(end: &OwnedFd, name: &str) -> io::Result<()> {
    // SAFETY: all fields of an `ifreq` may be nought.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    if name.len() > room {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` has over {room} characters"),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap_or_default();
    // SAFETY: the descriptor is open, and the request lives as long as the call.
    match unsafe { libc::ioctl(end.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
