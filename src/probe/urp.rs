//! The UNO remote protocol (URP), as much of it as an office needs to be asked: the handshake, calls, and answers to
//! what it calls in turn.
//!
//! A block is its size (u32), the number of messages in it (u32), and these. Each side may number the types, objects
//! and threads that it names, and then say the number alone; we number nothing. Source: `binaryurp/source/` in
//! LibreOffice, and what 7.4 sends.

use super::net;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest block that is read, in bytes. The pieces of a document come in blocks of 32 KiB.
pub(super) const MOST: u32 = 128 * 1024;
/// The most blocks that are read until a call is answered.
pub(super) const BLOCKS: usize = 64;
/// How many names a side may number (`cache::size` in its source).
const NUMBERED: u16 = 256;

/// "Not numbered" (`cache::ignore`).
const UNNUMBERED: [u8; 2] = [0xff; 2];
/// Flags of a message with a long head.
const LONG: u8 = 0x80;
const REQUEST: u8 = 0x40;
const NEW_TYPE: u8 = 0x20;
/// Of a reply.
const EXCEPTION: u8 = 0x20;
const NEW_OBJECT: u8 = 0x10;
const NEW_THREAD: u8 = 0x08;
const WIDE_FUNCTION: u8 = 0x04;
const MORE_FLAGS: u8 = 0x01;
/// The classes of types that are sent here (`typelib_TypeClass`).
const BOOLEAN: u8 = 2;
const STRING: u8 = 12;
/// Up to this one a type has no name.
const LAST_SIMPLE: u8 = 14;
const EXCEPTION_TYPE: u8 = 19;
const INTERFACE: u8 = 22;
/// The functions of every object.
const QUERY_INTERFACE: u8 = 0;
const RELEASE: u16 = 2;
/// Of `XProtocolProperties`.
const REQUEST_CHANGE: u16 = 4;

const ANY_OBJECT: &str = "com.sun.star.uno.XInterface";
const PROPERTIES: &str = "UrpProtocolProperties";
/// The thread that the handshake goes on.
const PROPERTIES_THREAD: &str = ".UrpProtocolPropertiesTid";
/// What an office started with `--accept=…;StarOffice.ComponentContext` shows.
const CONTEXT: &str = "StarOffice.ComponentContext";
/// Our own object, into which a document is written.
const OUTPUT: &[u8] = b"clusterd-output";

pub(super) enum Failure {
    Io(io::Error),
    Garbled(String),
    /// It answered a call with an exception, in its own words.
    Refused(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// A connection to an office that has shown its component context.
pub(super) struct Bridge<S> {
    stream: S,
    /// The name of our thread: two of one name would wait for each other there.
    thread: Vec<u8>,
    heard: Heard,
    /// The office's component context.
    context: Vec<u8>,
    /// The document that was written into our object: its first bytes, and how many there were.
    written: (Vec<u8>, usize),
}

/// What its side has numbered, and what it named last.
#[derive(Default)]
struct Heard {
    objects: HashMap<u16, Vec<u8>>,
    threads: HashMap<u16, Vec<u8>>,
    object: Vec<u8>,
    thread: Vec<u8>,
}

/// One message, without its head.
enum Message {
    Reply { exception: bool, body: Vec<u8> },
    Request { function: u16, object: Vec<u8>, thread: Vec<u8>, body: Vec<u8> },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Bridge<S> {
    /// The handshake: it wants to change the protocol, and may; then it shows its context.
    pub async fn open(stream: S) -> Result<Bridge<S>, Failure> {
        let thread = format!("clusterd {:016x}", RandomState::new().hash_one(0)).into_bytes();
        let mut bridge =
            Bridge { stream, thread, heard: Heard::default(), context: Vec::new(), written: (Vec::new(), 0) };
        match bridge.message().await? {
            Message::Request { function: REQUEST_CHANGE, object, .. } if object == PROPERTIES.as_bytes() => {}
            _ => return Err(Failure::Garbled("it does not begin with its protocol's properties".into())),
        }
        // 1: its wish goes before ours. It then says what changes: each request carries a context, and we have none.
        bridge.reply(PROPERTIES_THREAD.as_bytes(), &1_i32.to_be_bytes()).await?;
        match bridge.message().await? {
            Message::Request { object, .. } if object == PROPERTIES.as_bytes() => {}
            _ => return Err(Failure::Garbled("it does not say how its protocol changes".into())),
        }
        bridge.reply(PROPERTIES_THREAD.as_bytes(), &[]).await?;
        bridge.context = bridge.query(CONTEXT.as_bytes(), ANY_OBJECT).await?;
        Ok(bridge)
    }

    /// Has it make a document and convert that to PDF; how many bytes came. The document is closed whatever happens.
    pub async fn convert(&mut self) -> Result<usize, Failure> {
        const CONTEXTS: &str = "com.sun.star.uno.XComponentContext";
        const FACTORY: &str = "com.sun.star.lang.XMultiComponentFactory";
        const LOADER: &str = "com.sun.star.frame.XComponentLoader";
        const CLOSEABLE: &str = "com.sun.star.util.XCloseable";
        let context = self.context.clone();
        self.query(&context, CONTEXTS).await?;
        let factory = self.call(4, CONTEXTS, &context, &[]).await?; // getServiceManager
        let factory = self.object(&factory)?;
        let named = [text("com.sun.star.frame.Desktop"), object(&context)].concat();
        let desktop = self.call(3, FACTORY, &factory, &named).await?; // createInstanceWithContext
        let desktop = self.object(&desktop)?;
        self.query(&desktop, LOADER).await?;
        let hidden = property("Hidden", &[BOOLEAN, 1]);
        let load = [text("private:factory/swriter"), text("_blank"), vec![0; 4], vec![1], hidden].concat();
        let document = self.call(3, LOADER, &desktop, &load).await?; // loadComponentFromURL
        let document = self.object(&document)?;
        if document.is_empty() {
            return Err(Failure::Refused("it makes no document (is LibreOffice Writer installed?)".into()));
        }
        let stored = self.store(&document).await;
        self.query(&document, CLOSEABLE).await?;
        self.call(5, CLOSEABLE, &document, &[1]).await?; // close
        stored?;
        match &self.written {
            (head, length) if head.starts_with(b"%PDF-") => Ok(*length),
            (head, _) => Err(Failure::Refused(format!("its PDF begins with \"{}\"", net::shown(head)))),
        }
    }

    async fn store(&mut self, document: &[u8]) -> Result<(), Failure> {
        const STORABLE: &str = "com.sun.star.frame.XStorable";
        let output = [interface("com.sun.star.io.XOutputStream"), object(OUTPUT)].concat();
        let filter = property("FilterName", &[vec![STRING], text("writer_pdf_Export")].concat());
        let store = [text("private:stream"), vec![2], filter, property("OutputStream", &output)].concat();
        self.query(document, STORABLE).await?;
        self.call(8, STORABLE, document, &store).await.map(|_| ()) // storeToURL
    }

    /// The object as one that has this interface.
    async fn query(&mut self, of: &[u8], wanted: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.call(QUERY_INTERFACE, ANY_OBJECT, of, &interface(wanted)).await?;
        let mut rest = &answer[..];
        kind(&mut rest).filter(|kind| *kind == INTERFACE).ok_or_else(|| {
            Failure::Refused(format!("its {} is no {wanted}", net::shown(&of[..of.len().min(40)])))
        })?;
        self.object(rest)
    }

    /// The object at the front of an answer; an empty name is none.
    fn object(&mut self, mut body: &[u8]) -> Result<Vec<u8>, Failure> {
        self.heard.object(&mut body).ok_or_else(|| Failure::Garbled("it names no object".into()))
    }

    /// Calls a function and answers whatever it calls in turn until its reply comes.
    async fn call(&mut self, function: u8, of: &str, on: &[u8], with: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut message = vec![LONG | REQUEST | NEW_TYPE | NEW_OBJECT | NEW_THREAD, function];
        message.extend(interface(of));
        message.extend(object(on));
        message.extend(object(&self.thread)); // a thread is named as an object is
        message.extend(object(b"")); // the context that the handshake agreed on
        message.extend(with);
        self.send(&message).await?;
        for _ in 0..BLOCKS {
            match self.message().await? {
                Message::Reply { exception: false, body } => return Ok(body),
                Message::Reply { exception: true, body } => return Err(Failure::Refused(exception(&body))),
                Message::Request { function: RELEASE, .. } => {}
                Message::Request { function, object, thread, body } => {
                    let void: &[u8] = if function == u16::from(QUERY_INTERFACE) { &[0] } else { &[] };
                    if object == OUTPUT {
                        self.take(function, &body);
                    }
                    self.reply(&thread, void).await?;
                }
            }
        }
        Err(Failure::Garbled(format!("no answer among {BLOCKS} messages")))
    }

    /// `writeBytes` of our output.
    fn take(&mut self, function: u16, mut body: &[u8]) {
        const WRITE_BYTES: u16 = 3;
        if function == WRITE_BYTES && self.heard.object(&mut body).is_some() {
            let bytes = bytes(&mut body).unwrap_or_default();
            let head = &mut self.written.0;
            head.extend(bytes.iter().take(8_usize.saturating_sub(head.len())));
            self.written.1 += bytes.len();
        }
    }

    async fn reply(&mut self, thread: &[u8], body: &[u8]) -> Result<(), Failure> {
        let mut message = vec![LONG | NEW_THREAD];
        message.extend(object(thread));
        message.extend(body);
        self.send(&message).await
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        let mut block = (message.len() as u32).to_be_bytes().to_vec();
        block.extend(1_u32.to_be_bytes());
        block.extend(message);
        Ok(self.stream.write_all(&block).await?)
    }

    async fn message(&mut self) -> Result<Message, Failure> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head).await?;
        let [size, count] = [&head[..4], &head[4..]].map(|n| n.iter().fold(0, |n, b| n << 8 | u32::from(*b)));
        if size > MOST || count != 1 {
            return Err(Failure::Garbled(format!("it says \"{}\"", net::shown(&head))));
        }
        let mut block = vec![0; size as usize];
        self.stream.read_exact(&mut block).await?;
        let message = self.heard.message(&block);
        message.ok_or_else(|| Failure::Garbled(format!("it says \"{}\"", net::shown(&block))))
    }
}

impl Heard {
    fn message(&mut self, block: &[u8]) -> Option<Message> {
        let (flags, mut rest) = block.split_first()?;
        if flags & LONG == 0 {
            // A request like the last one, but for its function.
            let function = if flags & REQUEST == 0 {
                u16::from(flags & 0x3f)
            } else {
                u16::from(flags & 0x3f) << 8 | u16::from(byte(&mut rest)?)
            };
            return Some(self.request(function, rest));
        }
        if flags & REQUEST == 0 {
            if flags & NEW_THREAD != 0 {
                self.thread = named(&mut self.threads, &mut rest)?;
            }
            return Some(Message::Reply { exception: flags & EXCEPTION != 0, body: rest.to_vec() });
        }
        if flags & MORE_FLAGS != 0 {
            byte(&mut rest)?;
        }
        let mut function = u16::from(byte(&mut rest)?);
        if flags & WIDE_FUNCTION != 0 {
            function = function << 8 | u16::from(byte(&mut rest)?);
        }
        if flags & NEW_TYPE != 0 {
            kind(&mut rest)?;
        }
        if flags & NEW_OBJECT != 0 {
            self.object = self.object(&mut rest)?;
        }
        if flags & NEW_THREAD != 0 {
            self.thread = named(&mut self.threads, &mut rest)?;
        }
        Some(self.request(function, rest))
    }

    fn request(&self, function: u16, body: &[u8]) -> Message {
        let (object, thread) = (self.object.clone(), self.thread.clone());
        Message::Request { function, object, thread, body: body.to_vec() }
    }

    fn object(&mut self, rest: &mut &[u8]) -> Option<Vec<u8>> {
        named(&mut self.objects, rest)
    }
}

/// Takes a name off the front: its text and the number that it gets, or no text and the number that it has.
fn named(known: &mut HashMap<u16, Vec<u8>>, rest: &mut &[u8]) -> Option<Vec<u8>> {
    let name = bytes(rest)?.to_vec();
    let (number, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    let number = u16::from_be_bytes(*number);
    match name.is_empty() {
        true if number < NUMBERED => known.get(&number).cloned(),
        false if number < NUMBERED => {
            known.insert(number, name.clone());
            Some(name)
        }
        _ => Some(name),
    }
}

/// Takes a type off the front, and gives its class.
fn kind(rest: &mut &[u8]) -> Option<u8> {
    let class = byte(rest)?;
    if class & 0x7f > LAST_SIMPLE {
        *rest = rest.split_at_checked(2)?.1;
        if class & 0x80 != 0 {
            bytes(rest)?;
        }
    }
    Some(class & 0x7f)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

/// Takes bytes (or a text) with their length off the front.
fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = match byte(rest)? {
        0xff => {
            let (length, after) = rest.split_first_chunk::<4>()?;
            *rest = after;
            u32::from_be_bytes(*length) as usize
        }
        short => usize::from(short),
    };
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// The words of an exception: an `any` with its type and its message.
fn exception(body: &[u8]) -> String {
    let mut rest = body;
    let mut words = || {
        let class = byte(&mut rest)?;
        rest = rest.split_at_checked(2)?.1;
        let name = if class & 0x80 != 0 { bytes(&mut rest)? } else { b"an exception" };
        let name = String::from_utf8_lossy(name);
        let name = name.rsplit('.').next().unwrap_or_default().to_owned();
        let message = if class & 0x7f == EXCEPTION_TYPE { bytes(&mut rest)? } else { b"" };
        Some(match message {
            b"" => name,
            message => format!("{name}: {}", String::from_utf8_lossy(message).trim()),
        })
    };
    net::shown(words().unwrap_or_else(|| "an exception".into()).as_bytes())
}

fn text(text: &str) -> Vec<u8> {
    // None of ours is longer.
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// An object by its name, or a thread.
fn object(name: &[u8]) -> Vec<u8> {
    let length = match u8::try_from(name.len()) {
        Ok(short) if short < 0xff => vec![short],
        _ => [&[0xff][..], &(name.len() as u32).to_be_bytes()].concat(),
    };
    [&length, name, &UNNUMBERED].concat()
}

fn interface(name: &str) -> Vec<u8> {
    [&[INTERFACE | 0x80], &UNNUMBERED[..], &text(name)].concat()
}

/// A `PropertyValue` with this value (an `any`): name, handle, value, state.
fn property(name: &str, any: &[u8]) -> Vec<u8> {
    [&text(name), &[0; 4][..], any, &[0; 4]].concat()
}
