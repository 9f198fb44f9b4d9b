//! What people look at: the demo page on the gateway's port, the operator's page behind its door, and `top` in a
//! terminal, each served by a real daemon. What the pages do in a browser is tested in one (`tests/browser`).

mod dashboard;
mod demo;
mod top;

use crate::common::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A response: its status line and headers, and its body.
struct Response {
    head: String,
    body: String,
}

impl Response {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Says a request in pieces and reads to the end of the connection.
async fn ask(port: u16, pieces: &[&str]) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece.as_bytes()).await.unwrap();
        // Each on its own way: the scheduler may read between any two.
        tokio::task::yield_now().await;
    }
    let mut bytes = Vec::new();
    wait::within("the end of a response", stream.read_to_end(&mut bytes)).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Response { head: head.to_owned(), body: body.to_owned() }
}
