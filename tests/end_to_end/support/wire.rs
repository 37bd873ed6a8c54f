//! A raw TCP connection to the API, for requests that no HTTP client would send.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Client, PATIENCE};

/// Dropping it closes the connection at once.
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) async fn to(client: &Client) -> Self {
        Self(TcpStream::connect(client.address()).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Sends a whole POST, and does not wait for the answer.
    pub(crate) async fn send_post(&mut self, path: &str, body: &str) {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// The start of the next answer, at least its status line.
    pub(crate) async fn receive(&mut self) -> String {
        let mut buffer = vec![0; 4096];
        let length = timeout(PATIENCE, self.0.read(&mut buffer))
            .await
            .expect("no answer")
            .unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Everything until the server closes the connection.
    pub(crate) async fn receive_to_end(&mut self) -> String {
        let mut received = Vec::new();
        // A reset connection has ended, too.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut received))
            .await
            .expect("the connection stays open");
        String::from_utf8_lossy(&received).into_owned()
    }
}
