//! Signed envelopes: general or flattened JSON JWS around a plaintext message.

mod sign;
mod verify;

pub(crate) use sign::sign;
pub(crate) use verify::ParsedJws;
