//! Polls Modbus devices the way one writes it first: with tokio-modbus, a task for each device, all of them
//! on one thread. Answers are thrown away. What `scripts/limits` holds Lumina's polling against.
//!
//! `tokio-modbus-poller 127.0.0.1:1502 5000` reads registers 0 to 19 of unit 1 at 127.0.0.1 and the next
//! 4,999 addresses once a second. Its first line on standard output is the address that it was given; each
//! second it says on standard error how many reads were answered so far, and in how many seconds.

use std::cell::Cell;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout};
use tokio_modbus::client::{Context, Reader, tcp};
use tokio_modbus::slave::Slave;

const RATE: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);
const REGISTERS: u16 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("wants the first device, as in 127.0.0.1:1502, and how many");
    let first: SocketAddr = next()?.parse()?;
    let count: u32 = next()?.parse()?;
    let IpAddr::V4(address) = first.ip() else { return Err("wants an IPv4 address".into()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = Rc::new(Cell::new(0));
    LocalSet::new().block_on(&runtime, async move {
        let start = Instant::now();
        for index in 0..count {
            let device = SocketAddr::from((Ipv4Addr::from(u32::from(address) + index), first.port()));
            tokio::task::spawn_local(poll(device, start + RATE * index / count, answers.clone()));
        }
        println!("{first}");
        let mut tick = interval(RATE);
        loop {
            tick.tick().await;
            eprintln!("{} {:.3}", answers.get(), start.elapsed().as_secs_f64());
        }
    })
}

/// Never ends. A device that does not answer in time is connected to anew.
async fn poll(device: SocketAddr, first: Instant, answers: Rc<Cell<u64>>) {
    let mut due = interval_at(first, RATE);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut context = None;
    loop {
        due.tick().await;
        match timeout(TIMEOUT, read(&mut context, device)).await {
            Ok(true) => answers.set(answers.get() + 1),
            Ok(false) | Err(_) => context = None,
        }
    }
}

async fn read(context: &mut Option<Context>, device: SocketAddr) -> bool {
    if context.is_none() {
        *context = tcp::connect_slave(device, Slave(1)).await.ok();
    }
    let Some(context) = context else { return false };
    matches!(context.read_holding_registers(0, REGISTERS).await, Ok(Ok(_)))
}
