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

    /// A connection that the test made itself.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Sends as much as the kernel takes at once.
    pub(crate) async fn try_send(&mut self, bytes: &str) {
        self.0.writable().await.unwrap();
        let _ = self.0.try_write(bytes.as_bytes());
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

    /// Answers until one of them contains `words` in a whole line.
    pub(crate) async fn receive_until(&mut self, words: &str) -> String {
        let mut received = String::new();
        while !received
            .rsplit_once('\n')
            .is_some_and(|(lines, _)| lines.contains(words))
        {
            let more = self.receive().await;
            assert!(
                !more.is_empty(),
                "the end came before {words:?}: {received}"
            );
            received += &more;
        }
        received
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
