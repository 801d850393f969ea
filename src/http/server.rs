//! Listens, and gives each connection a thread and a deadline. A slow, silent or hostile client costs one of a bounded
//! number of threads for a bounded time.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use super::site::Site;
use super::wire::{NoRequest, Response, Wire};

/// Connections at the same time: a forge, a monitor, a proxy; not a service for many.
const MOST: usize = 16;
/// For a whole request and its answer.
const TIME: Duration = Duration::from_secs(10);
/// For telling a client that there is no room: its buffer takes that at once, or it is not told.
const REFUSAL_TIME: Duration = Duration::from_millis(50);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on `{address}`: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A listening server. Ends when dropped; answers that are under way have their own deadline.
pub struct Server {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` and answers as `site` says.
    ///
    /// # Errors
    /// `BindError`, most often because something else listens there.
    pub fn bind(address: SocketAddr, site: Site) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = Arc::new(TcpListener::bind(address).map_err(failed)?);
        let address = listener.local_addr().map_err(failed)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let door = Door { listener: Arc::clone(&listener), stopped: Arc::clone(&stopped), site: Arc::new(site) };
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || door.run()).map_err(failed)?;
        Ok(Self { address, listener, stopped, thread: Some(thread) })
    }

    /// Where it listens; the port that the system chose, where it was to choose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the accept: it fails from now on.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Door {
    listener: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    site: Arc<Site>,
}

impl Door {
    fn run(self) {
        // Each connection holds a clone: how many there are is the count of those.
        let seats = Arc::new(());
        while !self.stopped.load(Ordering::Acquire) {
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(_) if self.stopped.load(Ordering::Acquire) => return,
                Err(_) => {
                    // Out of descriptors: the client stays in the queue, and trying at once would only burn time.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if Arc::strong_count(&seats) > MOST {
                refuse(&stream);
                continue;
            }
            let (site, seat) = (Arc::clone(&self.site), Arc::clone(&seats));
            let talk = move || {
                talk(&site, stream, peer);
                drop(seat);
            };
            // Where the system gives no thread, the connection closes.
            let _ = std::thread::Builder::new().name("http-client".into()).spawn(talk);
        }
    }
}

/// Says it in one write, which the buffer of a new connection takes, and reads nothing: others are waiting.
fn refuse(mut stream: &TcpStream) {
    use std::io::Write as _;
    let _ = stream.set_write_timeout(Some(REFUSAL_TIME));
    let _ = stream.write(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
}

fn talk(site: &Site, stream: TcpStream, peer: SocketAddr) {
    // One small answer, and it is waited for.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream, TIME);
    let (answered, with_body) = match wire.head() {
        Ok(request) => (site.answer(&request, peer.ip(), &mut wire), request.method != "HEAD"),
        Err(none) => (Err(none), true),
    };
    let response = match answered {
        Ok(response) => response,
        // Nothing is written after the deadline either.
        Err(NoRequest::Closed | NoRequest::Late) => return,
        Err(NoRequest::Bad(status, words)) => Response::new(status, words),
    };
    wire.answer(&response, with_body);
}
