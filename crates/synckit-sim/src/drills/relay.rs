//! A line between client and server that counts bytes and can be cut: after a number of bytes in one direction, nothing
//! moves any more. A drill that waits for this moment can kill the client in the middle of any step.
//!
//! Bytes are a better clock than seconds: the same plan meets the same request at the same place on any machine.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::process::Process;

/// How often it is looked whether the process has ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Bytes that have passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the client to the server.
    pub up: u64,
    /// From the server to the client.
    pub down: u64,
}

impl Moved {
    fn of(&mut self, direction: Direction) -> &mut u64 {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

/// How the wait for a cut ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The line is cut, and nothing moves.
    Cut,
    /// The process has ended before.
    Ended,
}

#[derive(Debug, Default)]
struct Line {
    moved: Moved,
    cut_after: Option<(Direction, u64)>,
    is_cut: bool,
    /// Connections of an earlier round carry nothing any more.
    round: u64,
    target: Option<SocketAddr>,
}

#[derive(Debug, Default)]
struct Shared {
    line: Mutex<Line>,
    changed: Condvar,
}

/// A listener whose connections are forwarded to a server.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

impl Relay {
    /// Listens; until [`Relay::lead_to`] nobody is let through.
    ///
    /// # Errors
    /// If no port is free.
    pub fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let connections = Arc::clone(&shared);
        // Ends with the program: a listener that nobody knocks at costs nothing.
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                connections.carry(connection);
            }
        });
        Ok(Self { port, shared })
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sets its destination.
    pub fn lead_to(&self, port: u16) {
        self.shared.line.lock().target = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }

    /// Begins a round: older connections are closed, the count begins at zero, and the line is cut after so many bytes
    /// of a direction, if it is to be cut at all.
    pub fn begin(&self, cut_after: Option<(Direction, u64)>) {
        let mut line = self.shared.line.lock();
        line.moved = Moved::default();
        line.cut_after = cut_after;
        line.is_cut = false;
        line.round += 1;
        self.shared.changed.notify_all();
    }

    /// The bytes of this round.
    #[must_use]
    pub fn moved(&self) -> Moved {
        self.shared.line.lock().moved
    }

    /// Waits until the line is cut or the process has ended.
    ///
    /// # Errors
    /// If the process cannot be asked.
    pub fn wait(&self, process: &mut Process) -> io::Result<Wait> {
        let mut line = self.shared.line.lock();
        loop {
            if line.is_cut {
                return Ok(Wait::Cut);
            }
            if process.has_ended()? {
                return Ok(Wait::Ended);
            }
            self.shared.changed.wait_for(&mut line, LOOK_EVERY);
        }
    }
}

impl Shared {
    fn carry(self: &Arc<Self>, client: TcpStream) {
        let (round, target) = {
            let line = self.line.lock();
            (line.round, line.target)
        };
        // A missing server looks like a connection that is closed at once.
        let Some(server) = target.and_then(|target| TcpStream::connect(target).ok()) else {
            return;
        };
        let (Ok(client_reads), Ok(server_writes)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        for (direction, from, to) in [
            (Direction::Up, client_reads, server_writes),
            (Direction::Down, server, client),
        ] {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // Either end may break, which is the purpose of the line.
                let _ = shared.copy(round, direction, &from, &to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    }

    fn copy(&self, round: u64, direction: Direction, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        to.set_nodelay(true)?;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let (passing, goes_on) = self.admit(round, direction, length);
            to.write_all(&buffer[..passing])?;
            if !goes_on {
                self.hold(round);
                return Ok(());
            }
        }
    }

    /// The part of a piece that may pass, and whether anything may pass after it.
    fn admit(&self, round: u64, direction: Direction, length: usize) -> (usize, bool) {
        let mut line = self.line.lock();
        if line.round != round || line.is_cut {
            return (0, false);
        }
        let before = *line.moved.of(direction);
        let passing = match line.cut_after {
            Some((cut, after)) if cut == direction => {
                let room = usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX);
                line.is_cut = room <= length;
                room.min(length)
            }
            _ => length,
        };
        *line.moved.of(direction) += passing as u64;
        let goes_on = !line.is_cut;
        if !goes_on {
            self.changed.notify_all();
        }
        (passing, goes_on)
    }

    /// Keeps a cut connection open until the next round: neither end learns anything before the client is dead.
    fn hold(&self, round: u64) {
        let mut line = self.line.lock();
        while line.round == round {
            self.changed.wait(&mut line);
        }
    }
}
