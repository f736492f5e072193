//! Texts of few signs, each in a room of one width: nothing grows while they are made.

/// How many bytes a room has: enough for every number, and for every instant that is not of a format of the user's own.
pub const WIDTH: usize = 32;

/// Where a short text is made. What stands behind the text means nothing.
pub type Room = [u8; WIDTH];

/// Puts signs at a place, with which they have room.
#[inline(always)]
pub(crate) fn place<const LEN: usize>(signs: [u8; LEN], at: usize, room: &mut Room) {
    if let Some(place) = room.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<LEN>()) {
        *place = signs;
    }
}

/// Adds the text that `put` makes and whose length it says; false, and nothing added, when it makes none.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, put: impl FnOnce(&mut Room) -> Option<usize>) -> bool {
    let from = out.len();
    out.extend_from_slice(&[0; WIDTH]);
    let made = out.last_chunk_mut().and_then(put);
    out.truncate(from + made.unwrap_or_default());
    made.is_some()
}
