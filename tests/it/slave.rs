//! Modbus slaves of a test, written out in bytes as [`crate::modbus`] is: they do what the test tells them,
//! come and go.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::modbus::{crc, mbap};
use crate::server::{nobody, until};

/// How often a slave looks whether somebody came or it is to go.
const LOOK: Duration = Duration::from_millis(5);
/// By then a slave has noticed that its master is gone, however loaded the machine is.
const GRACE: Duration = Duration::from_secs(30);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub transaction: u16,
    pub unit: u8,
    pub pdu: Vec<u8>,
}

/// What a slave does with a request: the bytes that it sends, or the end of the connection.
pub type Answer = Option<Vec<u8>>;

type Habit = Box<dyn FnMut(&Request) -> Answer + Send>;

/// How frames go.
#[derive(Clone, Copy, PartialEq)]
pub enum Framing {
    Tcp,
    Udp,
    Rtu,
}

impl Request {
    /// The frame that answers it with this PDU.
    pub fn answer(&self, pdu: &[u8]) -> Vec<u8> {
        mbap(self.transaction, self.unit, pdu)
    }

    /// What an orderly slave answers to a read of registers, each of which holds `value` and its address, and
    /// to a write.
    pub fn orderly(&self, value: u16) -> Vec<u8> {
        match self.pdu[..] {
            [function @ (3 | 4), high, low, _, quantity] => {
                let first = u16::from_be_bytes([high, low]);
                let registers = (first..).take(quantity.into()).flat_map(|at| (value + at).to_be_bytes());
                [function, 2 * quantity].into_iter().chain(registers).collect()
            }
            [15 | 16, ..] => self.pdu[..5].to_vec(),
            _ => self.pdu.clone(),
        }
    }

    pub fn is_write(&self) -> bool {
        matches!(self.pdu[0], 5 | 6 | 15 | 16 | 22)
    }
}

/// A slave with an address of its own, which it keeps while it is away.
pub struct Slave {
    pub addr: SocketAddr,
    /// Bound and never listening: nobody else is given the port while the slave is away.
    _reserved: Option<Socket>,
    framing: Framing,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    habit: Mutex<Option<Habit>>,
    is_gone: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    /// Connections that are open now, and all that ever were.
    open: AtomicUsize,
    accepted: AtomicUsize,
    /// Connections that came while there was one already.
    intruders: AtomicUsize,
    requests: AtomicUsize,
}

impl Slave {
    /// One that answers each request with `value` and the address.
    pub fn start(value: u16) -> Slave {
        Slave::with(Framing::Tcp, move |request| Some(request.answer(&request.orderly(value))))
    }

    pub fn with(framing: Framing, habit: impl FnMut(&Request) -> Answer + Send + 'static) -> Slave {
        let (_reserved, addr) = match framing {
            Framing::Udp => (None, SocketAddr::from(([127, 0, 0, 1], 0))),
            Framing::Tcp | Framing::Rtu => {
                let (reserved, addr) = nobody();
                (Some(reserved), addr)
            }
        };
        let mut slave = Slave { addr, _reserved, framing, shared: Arc::default(), listening: None };
        slave.does(habit);
        slave.comes();
        slave
    }

    /// From now on it does so.
    pub fn does(&self, habit: impl FnMut(&Request) -> Answer + Send + 'static) {
        *locked(&self.shared.habit) = Some(Box::new(habit));
    }

    pub fn url(&self) -> String {
        let scheme = match self.framing {
            Framing::Tcp => "modbus",
            Framing::Udp => "modbus+udp",
            Framing::Rtu => "modbus-rtu",
        };
        format!("{scheme}://{}", self.addr)
    }

    /// It is there, at the address where it was before.
    pub fn comes(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.is_gone.store(false, SeqCst);
        let framing = self.framing;
        if framing == Framing::Udp {
            let socket = UdpSocket::bind(self.addr).expect("the address is free");
            self.addr = socket.local_addr().expect("it is bound");
            socket.set_read_timeout(Some(LOOK)).expect("a socket has a read timeout");
            self.listening = Some(thread::spawn(move || shared.serve_datagrams(&socket)));
            return;
        }
        // What listened before may still be in a process that another test is starting, until it is executed.
        let mut listener = None;
        until("the address is ours alone", || {
            listener = TcpListener::bind(self.addr).ok();
            listener.is_some()
        });
        let listener = listener.expect("it was waited for");
        listener.set_nonblocking(true).expect("a listener can be asked without waiting");
        self.listening = Some(thread::spawn(move || {
            while !shared.is_gone.load(SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => Shared::meet(&shared, stream, framing),
                    Err(_) => thread::sleep(LOOK),
                }
            }
        }));
    }

    /// It is gone: nobody listens, and connections are cut.
    pub fn goes(&mut self) {
        self.shared.is_gone.store(true, SeqCst);
        if let Some(listening) = self.listening.take() {
            listening.join().expect("a listening slave does not panic");
        }
        self.cut();
        until("all connections of a slave end", || self.open() == 0);
    }

    /// Connections are cut; new ones are taken.
    pub fn cut(&self) {
        for stream in locked(&self.shared.streams).drain(..) {
            // The master may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    pub fn intruders(&self) -> usize {
        self.shared.intruders.load(SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(SeqCst)
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        // Its threads end when they next look.
        self.shared.is_gone.store(true, SeqCst);
        self.cut();
    }
}

impl Shared {
    fn meet(shared: &Arc<Shared>, stream: TcpStream, framing: Framing) {
        let since = Instant::now();
        while shared.open.load(SeqCst) > 0 && since.elapsed() < GRACE {
            thread::sleep(LOOK);
        }
        if shared.open.load(SeqCst) > 0 {
            shared.intruders.fetch_add(1, SeqCst);
            return;
        }
        stream.set_nonblocking(false).expect("a stream can be waited for");
        stream.set_nodelay(true).expect("a socket has TCP_NODELAY");
        shared.open.fetch_add(1, SeqCst);
        shared.accepted.fetch_add(1, SeqCst);
        locked(&shared.streams).push(stream.try_clone().expect("a descriptor"));
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // It ends with an error when either side closes it.
            let _ = shared.serve(stream, framing);
            shared.open.fetch_sub(1, SeqCst);
        });
    }

    fn serve(&self, mut stream: TcpStream, framing: Framing) -> std::io::Result<()> {
        loop {
            let request = match framing {
                Framing::Rtu => {
                    // Reads, and writes of one register, are all that such a slave is asked.
                    let mut frame = [0; 8];
                    stream.read_exact(&mut frame)?;
                    assert_eq!(crc(&frame[..6]).to_le_bytes(), frame[6..], "a frame with its CRC");
                    Request { transaction: 0, unit: frame[0], pdu: frame[1..6].to_vec() }
                }
                _ => {
                    let mut header = [0; 7];
                    stream.read_exact(&mut header)?;
                    let mut pdu = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]])) - 1];
                    stream.read_exact(&mut pdu)?;
                    request_of(&header, pdu)
                }
            };
            match self.answer(&request) {
                Some(bytes) => stream.write_all(&bytes)?,
                None => return stream.shutdown(Shutdown::Both),
            }
        }
    }

    fn serve_datagrams(&self, socket: &UdpSocket) {
        let mut datagram = [0; 300];
        while !self.is_gone.load(SeqCst) {
            match socket.recv_from(&mut datagram) {
                Ok((count, peer)) => {
                    let request = request_of(&datagram[..7], datagram[7..count].to_vec());
                    if let Some(bytes) = self.answer(&request) {
                        socket.send_to(&bytes, peer).expect("a datagram is sent");
                    }
                }
                Err(error) => assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ),
                    "{error}"
                ),
            }
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        self.requests.fetch_add(1, SeqCst);
        locked(&self.habit).as_mut().expect("it has one from the start")(request)
    }
}

fn request_of(header: &[u8], pdu: Vec<u8>) -> Request {
    Request { transaction: u16::from_be_bytes([header[0], header[1]]), unit: header[6], pdu }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

/// A frame as serial lines have it.
pub fn rtu(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[unit], pdu].concat();
    frame.extend(crc(&frame).to_le_bytes());
    frame
}
