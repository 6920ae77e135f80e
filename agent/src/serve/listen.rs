//! The router on TCP and on a unix socket.

use axum::Router;
use axum::serve::ListenerExt as _;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owner and group may connect.
const SOCKET_MODE: u32 = 0o660;

/// An address that cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The TCP address is taken, or not ours.
    #[error("failed to listen on {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The socket file cannot be made.
    #[error("failed to listen on `{path}`")]
    Unix {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Serves on TCP until `cancel`, then ends the requests that run; gives the address, which tells the
/// port where 0 was asked for.
pub async fn serve_tcp(
    tracker: &TaskTracker,
    cancel: CancellationToken,
    address: SocketAddr,
    router: Router,
) -> Result<SocketAddr, ListenError> {
    let fail = |source| ListenError::Tcp { address, source };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    let listener = listener.tap_io(|stream| {
        if let Err(cause) = stream.set_nodelay(true) {
            tracing::debug!(%cause, "small answers may wait for more");
        }
    });
    tracker.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned()).await;
        if let Err(cause) = served {
            tracing::error!(%cause, %bound, "serving ended");
        }
    });
    Ok(bound)
}

/// Serves on a unix socket until `cancel`. A socket file of an earlier life is replaced.
pub async fn serve_unix(
    tracker: &TaskTracker,
    cancel: CancellationToken,
    path: &Path,
    router: Router,
) -> Result<(), ListenError> {
    let fail = |source| ListenError::Unix { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(fail(cause)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(fail)?;
    let path = path.to_owned();
    tracker.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned()).await;
        if let Err(cause) = served {
            tracing::error!(%cause, path = %path.display(), "serving ended");
        }
    });
    Ok(())
}
