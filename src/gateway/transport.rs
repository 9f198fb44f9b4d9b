//! What carries a connection's bytes: a TCP socket; in tests also a pipe in memory, so that there can be more
//! connections than a machine has sockets for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A fresh connection.
pub enum Transport {
    Tcp(TcpStream),
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

/// The half that is read from.
pub enum ReadHalf {
    Tcp(OwnedReadHalf),
    #[cfg(test)]
    Memory(tokio::io::ReadHalf<tokio::io::DuplexStream>),
}

/// The half that is written to.
pub enum WriteHalf {
    Tcp(OwnedWriteHalf),
    #[cfg(test)]
    Memory(tokio::io::WriteHalf<tokio::io::DuplexStream>),
}

impl Transport {
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            #[cfg(test)]
            Self::Memory(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::Memory(read), WriteHalf::Memory(write))
            }
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            #[cfg(test)]
            Self::Memory(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

impl WriteHalf {
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(half) => Pin::new(half).poll_write(cx, bytes),
            #[cfg(test)]
            Self::Memory(half) => Pin::new(half).poll_write(cx, bytes),
        }
    }

    /// Writes what goes at once.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            #[cfg(test)]
            Self::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Says that nothing more will be written.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(half) => tokio::io::AsyncWriteExt::shutdown(half).await,
            #[cfg(test)]
            Self::Memory(half) => tokio::io::AsyncWriteExt::shutdown(half).await,
        }
    }

    /// Reads and forgets. A socket that is dropped with something unread is reset, and a reset can overtake
    /// the close frame on its way to the peer. A pipe has no resets.
    pub async fn until_eof(&self) -> io::Result<()> {
        let half = match self {
            Self::Tcp(half) => half,
            #[cfg(test)]
            Self::Memory(_) => return Ok(()),
        };
        let mut scratch = [0; 256];
        loop {
            half.as_ref().readable().await?;
            // With always something to read this would never let go of the thread, and no timer could end it.
            tokio::task::consume_budget().await;
            match half.as_ref().try_read(&mut scratch) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
}
