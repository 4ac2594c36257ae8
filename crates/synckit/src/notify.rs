//! Reports the server's state to a service manager: the notification protocol of systemd, `sd_notify(3)`.
//!
//! Does nothing without `NOTIFY_SOCKET` in the environment. No failure here stops the server: a manager that misses a
//! message falls back to its own time-outs.

/// The reported state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The server answers requests.
    Ready,
    /// The server accepts no more connections.
    Stopping,
}

/// Reports the state to the service manager, if one started this process.
#[cfg(unix)]
pub(crate) fn service_manager(phase: Phase) {
    use std::{env, os::unix::net::UnixDatagram};
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    let message: &[u8] = match phase {
        Phase::Ready => b"READY=1",
        Phase::Stopping => b"STOPPING=1",
    };
    let sent = address(&name).and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not delay the server.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message, &address)
    });
    if let Err(error) = sent {
        tracing::warn!(%error, ?phase, "the service manager did not get the server's state");
    }
}

#[cfg(not(unix))]
pub(crate) fn service_manager(_: Phase) {}

/// A path, or after `@` a name in the abstract namespace of Linux.
#[cfg(unix)]
fn address(name: &std::ffi::OsStr) -> std::io::Result<std::os::unix::net::SocketAddr> {
    use std::os::unix::{ffi::OsStrExt as _, net::SocketAddr};
    match name.as_bytes().split_first() {
        #[cfg(target_os = "linux")]
        Some((b'@', abstract_name)) => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(abstract_name)
        }
        _ => SocketAddr::from_pathname(name),
    }
}
