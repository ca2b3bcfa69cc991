//! `mvccpb.KeyValue` and `mvccpb.Event`, in a decoded and in a gathered form.
//!
//! [`KeyValue`] and [`Event`] are ordinary messages. [`EncodedKeyValue`] and [`EncodedEvent`] hold the
//! protobuf bytes of one and pass for it wherever a message is expected: writing one out is a copy of
//! its bytes, cloning one is a reference count.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

/// One revision of one key (`mvccpb.KeyValue`).
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct KeyValue {
    /// The key, never empty.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Revision of the first put of this generation.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// Revision of the last change.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// Puts in this generation, 1 at creation.
    #[prost(int64, tag = "4")]
    pub version: i64,
    /// The value, possibly empty.
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    /// Lease that the key is attached to, 0 for none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

impl KeyValue {
    /// The canonical encoding, in one allocation of its exact size.
    pub fn encode_to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}

/// What happened to a key (`mvccpb.Event.EventType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum EventType {
    /// The key was written.
    Put = 0,
    /// The key was deleted.
    Delete = 1,
}

/// One change of one key (`mvccpb.Event`).
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Event {
    /// Put or delete.
    #[prost(enumeration = "EventType", tag = "1")]
    pub r#type: i32,
    /// The key-value after a put; only key and mod_revision after a delete.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<EncodedKeyValue>,
    /// The key-value before the change, when the watcher asked for it and it is still there.
    #[prost(message, optional, tag = "3")]
    pub prev_kv: Option<EncodedKeyValue>,
}

/// Defines a message that is held as its own encoding.
macro_rules! encoded_message {
    ($(#[$doc:meta])* $name:ident holds $plain:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            bytes: Bytes,
        }

        impl $name {
            /// Takes bytes that are already an encoding of the message; they are not checked.
            pub fn from_bytes(bytes: Bytes) -> Self {
                Self { bytes }
            }

            /// The encoding itself.
            pub fn as_bytes(&self) -> &Bytes {
                &self.bytes
            }

            /// The encoding itself, without a new reference.
            pub fn into_bytes(self) -> Bytes {
                self.bytes
            }

            /// The fields; keys and values share the encoding's memory.
            ///
            /// # Errors
            /// When the bytes are no encoding of the message.
            pub fn decode(&self) -> Result<$plain, DecodeError> {
                $plain::decode(self.bytes.clone())
            }
        }

        impl From<$plain> for $name {
            fn from(plain: $plain) -> Self {
                Self { bytes: plain.encode_to_vec().into() }
            }
        }

        impl From<&$plain> for $name {
            fn from(plain: &$plain) -> Self {
                Self { bytes: plain.encode_to_vec().into() }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.decode() {
                    Ok(plain) => plain.fmt(f),
                    Err(err) => write!(f, "{}(undecodable: {err})", stringify!($name)),
                }
            }
        }

        impl Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                buf.put_slice(&self.bytes);
            }

            fn encoded_len(&self) -> usize {
                self.bytes.len()
            }

            // Only clients read these from the wire, so appending field by field is good enough.
            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buf: &mut impl Buf,
                _ctx: DecodeContext,
            ) -> Result<(), DecodeError> {
                self.bytes = append_field(&self.bytes, tag, wire_type, buf)?;
                Ok(())
            }

            fn clear(&mut self) {
                self.bytes = Bytes::new();
            }
        }
    };
}

encoded_message! {
    /// A [`KeyValue`] as its protobuf bytes.
    EncodedKeyValue holds KeyValue
}

encoded_message! {
    /// An [`Event`] as its protobuf bytes.
    EncodedEvent holds Event
}

/// Copies one field from `buf` behind the bytes already there.
fn append_field(
    bytes: &Bytes,
    tag: u32,
    wire_type: WireType,
    buf: &mut impl Buf,
) -> Result<Bytes, DecodeError> {
    let mut out = BytesMut::with_capacity(bytes.len() + buf.remaining().min(4096));
    out.put_slice(bytes);
    encoding::encode_key(tag, wire_type, &mut out);
    match wire_type {
        WireType::Varint => encoding::encode_varint(encoding::decode_varint(buf)?, &mut out),
        WireType::LengthDelimited => {
            // A sub-message read as bytes: prost checks the length against what is left.
            let mut field = Bytes::new();
            encoding::bytes::merge(wire_type, &mut field, buf, DecodeContext::default())?;
            encoding::encode_varint(field.len() as u64, &mut out);
            out.put_slice(&field);
        }
        _ => {
            // No field of these messages is fixed-width or a group; an unknown one is dropped.
            encoding::skip_field(wire_type, tag, buf, DecodeContext::default())?;
            return Ok(bytes.clone());
        }
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: 2,
            mod_revision: 300,
            version: 3,
            value: Bytes::from(vec![7; 1000]),
            lease: -5,
        }
    }

    #[derive(Clone, PartialEq, Message)]
    struct PlainHolder {
        #[prost(message, repeated, tag = "2")]
        kvs: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct EncodedHolder {
        #[prost(message, repeated, tag = "2")]
        kvs: Vec<EncodedKeyValue>,
    }

    #[test]
    fn both_forms_are_the_same_bytes_on_the_wire() {
        let plain = PlainHolder { kvs: vec![sample(), KeyValue::default()] };
        let encoded = EncodedHolder { kvs: plain.kvs.iter().map(Into::into).collect() };
        assert_eq!(plain.encode_to_vec(), encoded.encode_to_vec());
        let read = EncodedHolder::decode(&plain.encode_to_vec()[..]).unwrap();
        assert_eq!(read, encoded);
        assert_eq!(read.kvs[0].decode().unwrap(), sample());
    }

    #[test]
    fn a_length_beyond_the_buffer_is_an_error() {
        // Field 2, length 3: field 5 with a length of 200 and nothing behind it.
        let bytes: &[u8] = &[0x12, 3, 0x2a, 200, 1];
        assert!(EncodedHolder::decode(bytes).is_err());
    }
}
