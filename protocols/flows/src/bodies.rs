//! Type URIs of message bodies: those of one protocol and version share a prefix.

/// Gives bodies their type URIs: first the common prefix, then each body with the name of its message.
macro_rules! bodies {
    ($family:literal: $($name:ident = $message:literal),+ $(,)?) => {
        $(impl einmal_didcomm::Body for $name {
            const TYPE: &'static str = concat!($family, $message);
        })+
    };
}
