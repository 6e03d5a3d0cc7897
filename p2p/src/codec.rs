//! Frames of `/didcomm/v2`: one packed message out, one status back.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response::Codec};
use unsigned_varint::{aio, encode, io::ReadError};

use crate::{
    places::{Place, Places},
    source::Source,
};

/// Name of the stream protocol.
///
/// # Specification
///
/// DIDComm's libp2p transport extension calls it `didcomm/v2`; libp2p itself demands the leading slash.
pub const PROTOCOL: &str = "/didcomm/v2";

/// Most bytes of a refused message that are read and discarded, so that its sender gets to read the answer.
const MAX_DRAINED: u64 = 4 * 1024 * 1024;

/// A receiver's answer to a message. It is about acceptance, not about what the message leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Accepted; the receiver will not need it again.
    Accepted,
    /// Larger than the receiver accepts.
    TooLarge,
    /// Not accepted now; it may be sent again.
    Busy,
    /// Does not open, breaks a rule, or is for nobody there; the answer does not tell which.
    Refused,
}

impl Status {
    const ALL: [Self; 4] = [Self::Accepted, Self::TooLarge, Self::Busy, Self::Refused];

    /// Its number on the wire.
    pub fn code(self) -> u64 {
        match self {
            Self::Accepted => 0,
            Self::TooLarge => 1,
            Self::Busy => 2,
            Self::Refused => 3,
        }
    }

    fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

/// The content of a request, in or out.
#[derive(Debug)]
pub(crate) enum Request {
    /// A whole packed message, and its place among those held in memory; an outgoing one takes none.
    Envelope { bytes: Vec<u8>, place: Option<Place> },
    /// Announced as larger than allowed; nothing of it was kept.
    TooLarge,
    /// There was no place for it; nothing of it was kept.
    Busy,
}

/// The source of the connection being set up.
///
/// The library clones one codec for each connection and does not say for which. It does so right after
/// [`Limits`](crate::limits::Limits) has judged the connection, in the same turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entering(Arc<Mutex<Option<Source>>>);

impl Entering {
    pub(crate) fn set(&self, source: Source) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    fn source(&self) -> Option<Source> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads and writes frames.
#[derive(Debug)]
pub(crate) struct EnvelopeCodec {
    /// Largest accepted message, in bytes.
    pub(crate) largest: u64,
    /// Places for messages held in memory at once.
    pub(crate) places: Arc<Places>,
    /// Time within which a message must have arrived.
    pub(crate) patience: Duration,
    pub(crate) entering: Entering,
    /// The source at the other end; `None` in the codec that is cloned for connections.
    pub(crate) source: Option<Source>,
}

impl Clone for EnvelopeCodec {
    fn clone(&self) -> Self {
        Self {
            largest: self.largest,
            places: Arc::clone(&self.places),
            patience: self.patience,
            entering: self.entering.clone(),
            source: self.source.or_else(|| self.entering.source()),
        }
    }
}

impl EnvelopeCodec {
    async fn read<T: AsyncRead + Unpin + Send>(&self, io: &mut T) -> io::Result<Request> {
        let length = aio::read_u64(&mut *io).await.map_err(not_a_number)?;
        if length > self.largest {
            drain(io, length).await?;
            return Ok(Request::TooLarge);
        }
        let Some(place) = self.source.and_then(|source| self.places.take(source)) else {
            drain(io, length).await?;
            return Ok(Request::Busy);
        };
        // Grows with the bytes that really arrive, so announcing a length costs nothing.
        let mut bytes = Vec::new();
        AsyncReadExt::take(&mut *io, length).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Request::Envelope { bytes, place: Some(place) })
    }
}

/// Reads and discards what a sender announced, within bounds.
async fn drain<T: AsyncRead + Unpin + Send>(io: &mut T, length: u64) -> io::Result<()> {
    let mut rest = AsyncReadExt::take(io, length.min(MAX_DRAINED));
    futures::io::copy(&mut rest, &mut futures::io::sink()).await.map(|_| ())
}

fn not_a_number(error: ReadError) -> io::Error {
    match error {
        ReadError::Io(error) => error,
        _ => io::ErrorKind::InvalidData.into(),
    }
}

async fn write_varint<T: AsyncWrite + Unpin + Send>(io: &mut T, number: u64) -> io::Result<()> {
    io.write_all(encode::u64(number, &mut encode::u64_buffer())).await
}

impl Codec for EnvelopeCodec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Status;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        match tokio::time::timeout(self.patience, self.read(io)).await {
            Ok(read) => read,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Status>
    where
        T: AsyncRead + Unpin + Send,
    {
        let code = aio::read_u64(io).await.map_err(not_a_number)?;
        Status::from_code(code).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        // Only whole messages are ever sent.
        let Request::Envelope { bytes, .. } = request else { return Err(io::ErrorKind::InvalidInput.into()) };
        write_varint(io, bytes.len() as u64).await?;
        io.write_all(&bytes).await?;
        io.flush().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, status: Status) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_varint(io, status.code()).await?;
        io.flush().await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use futures::io::Cursor;

    use super::*;

    fn codec(places: usize) -> EnvelopeCodec {
        EnvelopeCodec {
            largest: 1000,
            places: Places::new(places),
            patience: Duration::from_secs(5),
            entering: Entering::default(),
            source: Some(source(1)),
        }
    }

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    async fn read(codec: &mut EnvelopeCodec, bytes: &[u8]) -> io::Result<Request> {
        codec.read_request(&StreamProtocol::new(PROTOCOL), &mut Cursor::new(bytes)).await
    }

    async fn frame(bytes: Vec<u8>) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let request = Request::Envelope { bytes, place: None };
        codec(1).write_request(&StreamProtocol::new(PROTOCOL), &mut out, request).await.unwrap();
        out.into_inner()
    }

    #[tokio::test]
    async fn a_frame_comes_back_as_it_went() {
        for length in [0usize, 1, 127, 128, 1000] {
            let sent = vec![b'x'; length];
            let read = read(&mut codec(1), &frame(sent.clone()).await).await.unwrap();
            assert!(matches!(read, Request::Envelope { bytes, .. } if bytes == sent), "{length}");
        }
    }

    #[tokio::test]
    async fn a_byte_more_than_allowed_is_too_large() {
        assert!(matches!(read(&mut codec(1), &frame(vec![0; 1001]).await).await, Ok(Request::TooLarge)));
        // The length alone decides: nothing is read into memory first.
        let mut announced = encode::u64(u64::MAX, &mut encode::u64_buffer()).to_vec();
        announced.push(0);
        assert!(matches!(read(&mut codec(1), &announced).await, Ok(Request::TooLarge)));
    }

    #[tokio::test]
    async fn a_frame_that_ends_early_is_an_error() {
        let mut cut = frame(vec![7; 20]).await;
        cut.pop();
        assert_eq!(read(&mut codec(1), &cut).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(read(&mut codec(1), &[0x80]).await.is_err());
        // Eleven length bytes do not form a 64-bit number.
        assert!(read(&mut codec(1), &[0xff; 11]).await.is_err());
    }

    #[tokio::test]
    async fn without_a_place_the_answer_is_busy_until_one_is_free() {
        let mut codec = codec(1);
        let bytes = frame(b"one".to_vec()).await;
        let held = read(&mut codec, &bytes).await.unwrap();
        assert!(matches!(held, Request::Envelope { .. }));
        assert!(matches!(read(&mut codec, &bytes).await, Ok(Request::Busy)));
        drop(held);
        assert!(matches!(read(&mut codec, &bytes).await, Ok(Request::Envelope { .. })));
    }

    #[tokio::test]
    async fn who_takes_all_places_of_its_source_leaves_those_of_others() {
        let mut one = codec(16);
        let bytes = frame(b"one".to_vec()).await;
        let _held = [read(&mut one, &bytes).await.unwrap(), read(&mut one, &bytes).await.unwrap()];
        assert!(matches!(read(&mut one, &bytes).await, Ok(Request::Busy)));
        let mut other = EnvelopeCodec { source: Some(source(2)), ..one.clone() };
        assert!(matches!(read(&mut other, &bytes).await, Ok(Request::Envelope { .. })));
    }

    #[test]
    fn the_codec_of_a_connection_keeps_the_source_it_was_made_for() {
        let first = EnvelopeCodec { source: None, ..codec(1) };
        first.entering.set(source(1));
        let one = first.clone();
        first.entering.set(source(2));
        assert_eq!([one.clone().source, first.clone().source], [Some(source(1)), Some(source(2))]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(0u8.., 0..2000)) {
            let mut codec = codec(1);
            let request = futures::executor::block_on(codec.read(&mut Cursor::new(&bytes)));
            if let Ok(Request::Envelope { bytes: read, .. }) = request {
                proptest::prop_assert!(read.len() <= 1000 && read.len() < bytes.len());
            }
            let protocol = StreamProtocol::new(PROTOCOL);
            let _ = futures::executor::block_on(codec.read_response(&protocol, &mut Cursor::new(bytes)));
        }
    }

    /// Never yields a byte.
    struct Silent;

    impl AsyncRead for Silent {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_drips_loses_its_place() {
        let mut codec = codec(1);
        let mut slow = Cursor::new(vec![10u8, b'x']).chain(Silent);
        let error = codec.read_request(&StreamProtocol::new(PROTOCOL), &mut slow).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(codec.places.take(source(2)).is_some());
    }

    #[tokio::test]
    async fn statuses_keep_their_numbers_and_others_are_refused() {
        let protocol = StreamProtocol::new(PROTOCOL);
        for (status, code) in
            [Status::Accepted, Status::TooLarge, Status::Busy, Status::Refused].iter().zip(0u8..)
        {
            let mut out = Cursor::new(Vec::new());
            codec(1).write_response(&protocol, &mut out, *status).await.unwrap();
            assert_eq!(out.get_ref(), &vec![code]);
            let back = codec(1).read_response(&protocol, &mut Cursor::new(vec![code])).await.unwrap();
            assert_eq!(back, *status);
        }
        let unknown = codec(1).read_response(&protocol, &mut Cursor::new(vec![4u8])).await.unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::InvalidData);
    }
}
