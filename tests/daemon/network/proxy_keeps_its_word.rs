//! Goal: the proxy does what the other tests here believe it does; a network that is kinder would prove nothing.
//! Method: an echo, or a talker, behind it.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::proxy::{Cut, Plan, Proxy, Way};
use crate::common::wait;

/// A client, its counterpart behind the proxy, and the proxy.
async fn pair(plan: Plan) -> (TcpStream, TcpStream, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().port(), move || plan.clone()).await;
    let address = proxy.url().trim_start_matches("ws://").trim_end_matches("/v1/connect").to_owned();
    let client = TcpStream::connect(address).await.unwrap();
    let (server, _) = wait::within("the connection", listener.accept()).await.unwrap();
    (client, server, proxy)
}

/// What comes until the end, and the end.
async fn all(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let mut piece = [0; 64];
    loop {
        match wait::within("bytes or an end", stream.read(&mut piece)).await {
            Ok(0) => return (bytes, None),
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) => return (bytes, Some(error.kind())),
        }
    }
}

#[tokio::test]
async fn bytes_and_ends_come_through() {
    let (mut client, mut server, _proxy) = pair(Plan::default()).await;
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(all(&mut server).await, (b"hello".to_vec(), None));
    server.write_all(b"bye").await.unwrap();
    drop(server);
    assert_eq!(all(&mut client).await, (b"bye".to_vec(), None));
}

#[tokio::test]
async fn a_reset_comes_after_exactly_so_many_bytes_and_to_both_sides() {
    for after in [0, 1, 7, 10] {
        let up = Way { cut: Some((after, Cut::Reset)), ..Way::default() };
        let (mut client, mut server, _proxy) = pair(Plan { up, down: Way::default() }).await;
        // It may be reset before this is written.
        let _reset = client.write_all(b"0123456789").await.is_err();
        let expected = b"0123456789"[..after as usize].to_vec();
        assert_eq!(all(&mut server).await, (expected, Some(ErrorKind::ConnectionReset)));
        assert_eq!(all(&mut client).await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    }
}

#[tokio::test]
async fn what_vanishes_is_not_told_to_either_side() {
    let (mut client, mut server, proxy) = pair(Plan::default()).await;
    client.write_all(b"a").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'a');
    proxy.cut(Cut::Vanish);
    client.write_all(&[0; 1 << 20]).await.unwrap();
    client.shutdown().await.unwrap();
    // Whatever will come: if anything of that had been let through, it would have come before the reset.
    proxy.cut(Cut::Reset);
    let (bytes, end) = all(&mut server).await;
    assert_eq!((bytes.len(), end), (0, Some(ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_stall_stops_the_writer_and_ends_without_a_loss() {
    let (mut client, mut server, proxy) = pair(Plan::default()).await;
    proxy.stall();
    // More than all sockets on the way hold.
    let bytes = vec![7; 32 << 20];
    let writing = tokio::spawn(async move {
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
    });
    assert!(tokio::time::timeout(Duration::from_millis(200), server.read_u8()).await.is_err());
    assert!(!writing.is_finished());
    proxy.flow();
    let mut read = Vec::new();
    wait::within("all of it", server.read_to_end(&mut read)).await.unwrap();
    assert!(read.len() == 32 << 20 && read.iter().all(|byte| *byte == 7));
    writing.await.unwrap();
}

#[tokio::test]
async fn a_delay_holds_back_and_keeps_the_order() {
    let up = Way { delay: Duration::from_millis(60), jitter: Duration::from_millis(40), ..Way::default() };
    let (mut client, mut server, _proxy) = pair(Plan { up, down: Way::default() }).await;
    let began = Instant::now();
    for byte in 0..100 {
        client.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.shutdown().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), 0);
    assert!(began.elapsed() >= Duration::from_millis(60));
    let (rest, end) = all(&mut server).await;
    assert_eq!((rest, end), ((1..100).collect(), None));
}

#[tokio::test]
async fn bytewise_means_many_small_writes() {
    let up = Way { bytewise: true, ..Way::default() };
    let (mut client, mut server, _proxy) = pair(Plan { up, down: Way::default() }).await;
    client.write_all(&[1; 2000]).await.unwrap();
    client.shutdown().await.unwrap();
    let (mut reads, mut piece) = (0, [0; 4096]);
    while wait::within("a byte", server.read(&mut piece)).await.unwrap() > 0 {
        reads += 1;
    }
    // The kernel may put some together when the reader is slow.
    assert!(reads > 20, "{reads} reads");
}
