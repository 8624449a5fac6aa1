//! Stands in for the crate `reqwest`, by which `openai-harmony` would fetch its vocabulary.
//!
//! Tests give it the vocabulary as a file. Here every request fails, so that they cannot reach the
//! network.

/// The client that waits.
pub mod blocking {
    use std::io;

    use super::Error;

    /// Sends nothing.
    #[derive(Debug, Default)]
    pub struct Client;

    impl Client {
        /// A client.
        pub fn new() -> Self {
            Self
        }

        /// A request that fails.
        pub fn get(&self, url: &str) -> Request {
            Request { url: url.to_owned() }
        }
    }

    /// A request that fails.
    #[derive(Debug)]
    pub struct Request {
        url: String,
    }

    impl Request {
        /// Fails.
        ///
        /// # Errors
        /// Always.
        pub fn send(self) -> Result<Response, Error> {
            Err(Error { url: self.url })
        }
    }

    /// What a server would answer: there is none of these.
    #[derive(Debug)]
    pub enum Response {}

    impl Response {
        /// What it is called on.
        ///
        /// # Errors
        /// None.
        pub fn error_for_status(self) -> Result<Self, Error> {
            match self {}
        }
    }

    impl io::Read for Response {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            match *self {}
        }
    }
}

/// A request that was not sent.
#[derive(Debug)]
pub struct Error {
    url: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "tests do not reach the network: {}", self.url)
    }
}

impl std::error::Error for Error {}
