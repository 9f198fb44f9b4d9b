//! `doorstep dashboard`: the operator's page, on a loopback port of its own.
//!
//! A browser cannot open a Unix socket, so this stands between: it serves the page, and hands what the page asks
//! for on to the admin socket. Whoever may use that socket may run this; nobody else on the machine may use
//! what it opens (`door`), and no other page in the same browser either.

mod door;
mod proxy;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::stdout::print;
use super::{CliError, Global};
use door::Door;
use proxy::Proxy;

/// Connections at once; more wait in the kernel. A browser opens six, and one for the events.
const CONNECTIONS_MAX: usize = 64;
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// After a failed accept (out of descriptors), so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct DashboardArgs {
    /// Loopback port to serve the page on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Serves the page until it is interrupted.
pub(super) async fn run(global: &Global, args: DashboardArgs) -> Result<(), CliError> {
    let admin = global.admin()?;
    // Better told here than by an empty page.
    admin.call(Method::GET, "/v1/health", None).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let unusable = |error| CliError::new(format!("cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(unusable)?;
    let port = listener.local_addr().map_err(unusable)?.port();
    let door = Door::new(port).map_err(|error| CliError::new(format!("no randomness for a key: {error}")))?;
    print(&format!(
        "{}\n\nOpen it in your browser; the address works once. Ctrl-C ends the dashboard.\n",
        door.address()
    ))?;
    let proxy = Arc::new(Proxy::new(admin, door));
    tokio::select! {
        () = accept(&listener, &proxy) => Ok(()),
        ended = tokio::signal::ctrl_c() => ended.map_err(|error| CliError::new(format!("no signals: {error}"))),
    }
}

async fn accept(listener: &TcpListener, proxy: &Arc<Proxy>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let proxy = Arc::clone(proxy);
                tokio::spawn(async move {
                    serve(stream, proxy).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, proxy: Arc<Proxy>) {
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .serve_connection(TokioIo::new(stream), service);
    // A browser that breaks off is nobody's fault.
    let _ended = connection.await;
}
