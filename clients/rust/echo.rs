//! A bot that sends back what it is sent: `cargo run --example echo -- [URL [FILE]]`.
//!
//! What it was sent while it was away is answered when it comes back, and nothing twice: the id of an answer is made of
//! the question's place in the inbox, so that the router knows a repeat, and a question that may have been answered in an
//! earlier process is answered as one.
#![allow(clippy::print_stdout, reason = "that is how an example tells what it does")]

use std::error::Error;
use std::sync::Arc;

use doorstep::client::{Client, Event, FileStorage, Incoming, Options, Outgoing};
use doorstep::ids::{MessageId, UserId};
use futures::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:7400/v1/connect".to_owned());
    let storage = FileStorage::open(arguments.next().unwrap_or_else(|| "echo.doorstep".to_owned()))?;
    let options = Options::new(url, storage.device()).user(UserId::new("echo")?).storage(Arc::new(storage));
    let (client, mut events) = Client::connect(options);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Connected(welcome)) => println!("connected, {} wait", welcome.pending),
                // Acknowledged when the loop comes back for the next event: after the answer is safe.
                Some(Event::Message(message)) => {
                    if let Err(error) = echo(&client, &message).await {
                        println!("{error}");
                    }
                }
                Some(Event::Closed(why)) => println!("the end: {why}"),
                Some(_) => {}
                None => return Ok(()),
            },
            _ = tokio::signal::ctrl_c() => client.close().await,
        }
    }
}

async fn echo(client: &Client, message: &Incoming) -> Result<(), Box<dyn Error>> {
    let answer = Outgoing::new(&message.from, &message.body)?;
    let id = MessageId::new(&format!("echo:{}", message.seq.0))?;
    let answer = if message.redelivered { answer.repeating(id) } else { Outgoing { id, ..answer } };
    client.send_message(answer).await?;
    Ok(())
}
