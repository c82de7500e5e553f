//! Where the frames of HTTP/2 begin and end on the raw bytes, and what each costs.

const PREFACE: usize = 24;
/// The length of a frame's head in bytes, and where its kind and its flags are in it.
pub(super) const HEAD: usize = 9;
const KIND: usize = 3;
const FLAGS: usize = 4;
/// The longest frame that h2 accepts here.
const MAX_FRAME: usize = 16 << 10;
pub(super) const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// A DATA frame of at least this many bytes costs nothing; nor does the last of a stream.
const WORTHWHILE: usize = 256;

/// The position of the next byte of a connection: in which frame it is, and where.
pub(super) struct Frames {
    /// How many bytes of the preface or of a payload are left; they are passed on as they arrive.
    skip: usize,
    /// The bytes to insert before the bytes that are read next: the head for the rest of a DATA frame, or the part
    /// of a head that has arrived.
    head: [u8; HEAD],
    have: usize,
    /// Whether that frame was counted already.
    counted: bool,
    /// Whether a header block has begun and not ended.
    block: bool,
    kind: u8,
    /// Whether a frame ended in the bytes that were read last, with no header block open after it.
    pub(super) ended: bool,
    /// Bytes of DATA since their deadline was last renewed.
    pub(super) came: usize,
}

/// The result of examining the bytes that were read.
pub(super) struct Seen {
    pub(super) cost: u64,
    /// How many bytes to pass on. The others are inserted before the bytes that are read next.
    pub(super) hand_on: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            counted: false,
            block: false,
            kind: SETTINGS,
            ended: false,
            came: 0,
        }
    }
}

impl Frames {
    /// The bytes to insert before the bytes that are read next.
    pub(super) fn head(&self) -> &[u8] {
        &self.head[..self.have]
    }

    /// Counts the bytes that were read; `bytes` begin with [`Self::head`].
    pub(super) fn see(&mut self, bytes: &mut [u8]) -> Seen {
        let (mut cost, mut at) = (0, 0);
        let mut counted = std::mem::take(&mut self.counted);
        self.have = 0;
        self.ended = false;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            if self.skip > 0 {
                let skipped = self.skip.min(rest.len());
                self.skip -= skipped;
                self.came += if self.kind == DATA { skipped } else { 0 };
                at += skipped;
            } else {
                let Some((head, payload)) = rest.split_first_chunk_mut::<HEAD>() else {
                    self.hold(rest);
                    break;
                };
                if !std::mem::take(&mut counted) {
                    cost += self.frame(head);
                }
                let length = length(head);
                if self.kind == DATA && head[FLAGS] & PADDED == 0 && payload.len() < length && length <= MAX_FRAME {
                    let there = payload.len();
                    self.hold_rest(head, length - there);
                    if there > 0 {
                        self.came += there;
                        set_length(head, there);
                        head[FLAGS] &= !END_STREAM;
                        at += HEAD + there;
                    }
                    break;
                }
                self.skip = length;
                at += HEAD;
            }
            self.ended |= self.skip == 0 && !self.block;
        }
        Seen { cost, hand_on: at }
    }

    /// Keeps the beginning of a head for the next read.
    fn hold(&mut self, begun: &[u8]) {
        self.head[..begun.len()].copy_from_slice(begun);
        self.have = begun.len();
    }

    /// Keeps a head for the `left` bytes of a DATA frame.
    fn hold_rest(&mut self, head: &[u8; HEAD], left: usize) {
        self.hold(head);
        set_length(&mut self.head, left);
        self.counted = true;
    }

    /// The cost of the frame with this head.
    fn frame(&mut self, head: &[u8; HEAD]) -> u64 {
        let (length, kind, flags) = (length(head), head[KIND], head[FLAGS]);
        self.kind = kind;
        if [HEADERS, PUSH_PROMISE, CONTINUATION].contains(&kind) {
            self.block = flags & END_HEADERS == 0;
        }
        match kind {
            DATA if length >= WORTHWHILE || flags & END_STREAM != 0 => 0,
            CONTINUATION => 2,
            SETTINGS => 1 + length as u64 / 64,
            DATA | HEADERS => 1,
            _ => 1 + length as u64 / 1024,
        }
    }

    /// The kind of the incomplete frame, if there is one.
    pub(super) fn under_way(&self) -> Option<u8> {
        if self.counted {
            return Some(DATA);
        }
        if self.block || self.have > 0 {
            return Some(HEADERS);
        }
        (self.skip > 0).then_some(self.kind)
    }
}

fn length(head: &[u8; HEAD]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// Sets the length of a frame, of at most [`MAX_FRAME`] bytes.
fn set_length(head: &mut [u8; HEAD], length: usize) {
    [head[0], head[1], head[2]] = [(length >> 16) as u8, (length >> 8) as u8, length as u8];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = u64::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + length, 0);
        frame
    }

    #[test]
    fn frames_are_counted_in_pieces_of_any_size() {
        let wire = [
            vec![0; PREFACE],
            frame(SETTINGS, 0, 18),      // 1
            frame(HEADERS, 0, 40),       // 1
            frame(CONTINUATION, 0, 0),   // 2
            frame(CONTINUATION, 4, 300), // 2
            frame(DATA, 0, 4096),        // 0
            frame(DATA, 0, 0),           // 1
            frame(DATA, END_STREAM, 0),  // 0
            frame(6, 0, 8),              // 1
            frame(77, 0, 2048),          // 3
        ]
        .concat();
        let mut whole = Frames::default();
        let Seen { cost, hand_on } = whole.see(&mut wire.clone());
        assert_eq!((cost, hand_on), (11, wire.len()));
        assert_eq!(whole.under_way(), None);
        for cut in 1..wire.len() {
            let (cost, frames, _) = in_pieces(&wire, cut);
            assert_eq!(cost, 11, "{cut}");
            assert!(frames.ended && frames.under_way().is_none());
        }
        let mut open = Frames::default();
        open.see(&mut [0; PREFACE]);
        open.see(&mut frame(HEADERS, 0, 40));
        assert_eq!((open.under_way(), open.ended), (Some(HEADERS), false));
        open.see(&mut frame(CONTINUATION, 0, 9));
        assert_eq!((open.under_way(), open.ended), (Some(HEADERS), false), "a block that goes on has not ended");
        open.see(&mut frame(CONTINUATION, END_HEADERS, 0));
        assert_eq!((open.under_way(), open.ended), (None, true));
        open.see(&mut [0]);
        assert_eq!((open.under_way(), open.ended), (Some(HEADERS), false), "nor has a head with only one byte");
    }

    /// Examines the wire this many bytes at a time: the cost, and the bytes that are passed on.
    fn in_pieces(wire: &[u8], cut: usize) -> (u64, Frames, Vec<u8>) {
        let (mut frames, mut cost, mut handed) = (Frames::default(), 0, Vec::new());
        for part in wire.chunks(cut) {
            let mut bytes = [frames.head(), part].concat();
            let seen = frames.see(&mut bytes);
            cost += seen.cost;
            handed.extend_from_slice(&bytes[..seen.hand_on]);
        }
        (cost, frames, handed)
    }

    /// The frames of a wire, with consecutive DATA frames of a stream joined: kind, flags, stream, payload.
    fn joined(wire: &[u8]) -> Vec<(u8, u8, [u8; 4], Vec<u8>)> {
        let (mut rest, mut all) = (&wire[PREFACE..], Vec::<(u8, u8, [u8; 4], Vec<u8>)>::new());
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
            let (payload, behind) = behind.split_at(length(head));
            let stream = [head[5], head[6], head[7], head[8]];
            match all.last_mut() {
                Some((DATA, flags, of, before)) if head[KIND] == DATA && *of == stream && *flags == 0 => {
                    *flags = head[FLAGS];
                    before.extend_from_slice(payload);
                }
                _ => all.push((head[KIND], head[FLAGS], stream, payload.to_vec())),
            }
            rest = behind;
        }
        all
    }

    #[test]
    fn a_data_frame_is_passed_on_as_it_arrives_and_nothing_else_changes() {
        let counted = |kind, flags, stream, length: usize| {
            let mut frame = frame(kind, flags, length);
            frame[8] = stream;
            frame[HEAD..].iter_mut().zip(0..).for_each(|(byte, n)| *byte = n as u8 ^ stream);
            frame
        };
        let wire = [
            vec![0; PREFACE],
            counted(SETTINGS, 0, 0, 18),
            counted(HEADERS, END_HEADERS, 1, 300),
            counted(DATA, 0, 1, 700),
            counted(HEADERS, END_HEADERS, 3, 30),
            counted(DATA, END_STREAM, 1, 500),
            counted(DATA, PADDED, 3, 400),
            counted(DATA, END_STREAM, 3, 0),
            counted(DATA, 0, 5, MAX_FRAME + 1),
        ]
        .concat();
        for cut in (1..1000).chain([5000, 20_000, wire.len()]) {
            let (_, frames, handed) = in_pieces(&wire, cut);
            assert_eq!(frames.under_way(), None, "{cut}");
            assert_eq!(joined(&handed), joined(&wire), "{cut}");
        }
        // All bytes of the frame that have arrived are passed on.
        let (_, frames, handed) = in_pieces(&wire[..wire.len() - MAX_FRAME - 1 - 2 * HEAD - 400 - HEAD - 100], 7);
        assert_eq!(frames.under_way(), Some(DATA));
        assert_eq!(joined(&handed).last().unwrap().3.len(), 400);
    }
}
