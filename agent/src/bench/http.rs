//! A bare HTTP/1.1 client over one connection: requests are built before the clock starts, to spare the shared cores.

use std::net::SocketAddr;

use einmal_didcomm::ENCRYPTED_MEDIA_TYPE;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Problem;

/// One connection.
pub(super) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A request with its head, ready to be written.
pub(super) fn post(envelope: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {ENCRYPTED_MEDIA_TYPE}\r\nContent-Length: {}\r\n\r\n",
        envelope.len()
    )
    .into_bytes();
    request.extend_from_slice(envelope);
    request
}

impl Http {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self, Problem> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Writes a request and reads its answer: status and body.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>), Problem> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let text = std::str::from_utf8(self.buffer.get(..head).unwrap_or_default())?.to_ascii_lowercase();
        let status = text.split_whitespace().nth(1).ok_or("no status")?.parse()?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
        while self.buffer.len() < head + length {
            self.fill().await?;
        }
        let body = self.buffer.get(head..head + length).unwrap_or_default().to_vec();
        self.buffer.drain(..head + length);
        Ok((status, body))
    }

    async fn fill(&mut self) -> Result<(), Problem> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err("the connection was closed".into());
        }
        Ok(())
    }
}
