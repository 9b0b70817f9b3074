//! A blob as a stream that goes on after a broken connection where it stopped.

use crate::error::Error;
use crate::session::{Ask, Session, Trouble};
use crate::transport::Response;
use barque_types::oci::Descriptor;
use barque_types::reference::Reference;
use std::io::{self, Read};
use std::sync::Arc;
use ureq::BodyReader;
use ureq::http::Method;

/// Progress that makes a new start of counting broken connections fair.
const PROGRESS: u64 = 64 * 1024;

/// The bytes of one blob: exactly as many as its descriptor says, or an error. Whether they have its digest is for
/// the reader's consumer to check. Errors are [`Error`]s inside [`io::Error`]s; see [`Error::from_io`].
pub struct BlobReader {
    session: Arc<Session>,
    reference: Reference,
    descriptor: Descriptor,
    body: Option<BodyReader<'static>>,
    offset: u64,
    /// Where the count of `attempt` began.
    counted_from: u64,
    attempt: u32,
}

impl BlobReader {
    pub(crate) fn open(
        session: Arc<Session>,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<Self, Error> {
        let mut reader = Self {
            session,
            reference: reference.name_only(),
            descriptor: descriptor.clone(),
            body: None,
            offset: 0,
            counted_from: 0,
            attempt: 1,
        };
        reader.body = Some(reader.connect()?);
        Ok(reader)
    }

    /// How many bytes have been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A body that continues at `offset`.
    fn connect(&self) -> Result<BodyReader<'static>, Error> {
        let mut headers = Vec::new();
        if self.offset > 0 {
            headers.push(("range", format!("bytes={}-", self.offset)));
        }
        let ask = Ask {
            reference: &self.reference,
            method: Method::GET,
            path: format!("blobs/{}", self.descriptor.digest),
            headers,
            is_manifest: false,
        };
        let (partial, mut body) = self.session.request(&ask, |response| {
            let partial = response.status() == 206;
            self.check_length(&response, partial)?;
            Ok((partial, response.into_body().into_reader()))
        })?;
        if !partial && self.offset > 0 {
            // The server ignores ranges: the beginning comes once more.
            let mut again = (&mut body).take(self.offset);
            io::copy(&mut again, &mut io::sink())
                .map_err(|error| self.broken(&error.to_string()))?;
        }
        Ok(body)
    }

    /// Compares what the headers announce with the descriptor, before anything is read.
    fn check_length(&self, response: &Response, partial: bool) -> Result<(), Trouble> {
        let header = |name| response.headers().get(name)?.to_str().ok();
        let start = if partial { self.offset } else { 0 };
        if partial {
            let range = header("content-range").and_then(|value| value.strip_prefix("bytes "));
            let first = range.and_then(|range| range.split('-').next()?.parse().ok());
            if first != Some(self.offset) {
                return Err(self
                    .bad("it sent another range than it was asked for")
                    .into());
            }
        }
        let announced = header("content-length").and_then(|value| value.parse().ok());
        let want = self.descriptor.size.checked_sub(start);
        match announced {
            Some(length) if want != Some(length) => Err(self
                .bad(&format!(
                    "blob {} is {} bytes long but the manifest says {}; push the image again",
                    self.descriptor.digest,
                    length + start,
                    self.descriptor.size
                ))
                .into()),
            _ => Ok(()),
        }
    }

    fn bad(&self, detail: &str) -> Error {
        Error::BadAnswer {
            registry: self.reference.domain().to_owned(),
            repository: self.reference.familiar_name(),
            detail: detail.to_owned(),
        }
    }

    fn broken(&self, detail: &str) -> Error {
        Error::Unreachable {
            registry: self.reference.domain().to_owned(),
            detail: format!(
                "the connection broke after {} of {} bytes of {}: {detail}",
                self.offset, self.descriptor.size, self.descriptor.digest
            ),
        }
    }

    /// Connects again, if it has not been tried too often without progress.
    fn resume(&mut self, detail: &str) -> Result<(), Error> {
        self.body = None;
        if self.session.http.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if self.offset - self.counted_from >= PROGRESS {
            self.attempt = 1;
        }
        self.counted_from = self.offset;
        let mut detail = detail.to_owned();
        loop {
            let trouble = Trouble::Passing(self.broken(&detail), None);
            self.session.wait_or_give_up(&mut self.attempt, trouble)?;
            match self.connect() {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                // A registry that is being restarted refuses connections for a while.
                Err(Error::Unreachable { detail: why, .. }) => detail = why,
                Err(error) => return Err(error),
            }
        }
    }

    fn at_end(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // One byte more than announced means that the descriptor lies; nothing may be read beyond it.
        if let Some(mut body) = self.body.take()
            && matches!(body.read(&mut buf[..1]), Ok(1))
        {
            let error = self.bad(&format!(
                "blob {} is longer than the {} bytes that the manifest says; push the image again",
                self.descriptor.digest, self.descriptor.size
            ));
            return Err(error.into());
        }
        Ok(0)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let left = self.descriptor.size - self.offset;
        if left == 0 {
            return self.at_end(buf);
        }
        let room = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        loop {
            let read = match &mut self.body {
                Some(body) => body.read(&mut buf[..room]),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            match read {
                Ok(0) => self.resume("it ended early")?,
                Ok(length) => {
                    self.offset += length as u64;
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.resume(&error.to_string())?,
            }
        }
    }
}
