//! Every public function of `palmtop::text`.

use core::hint::black_box;

use palmtop::format::Palm;
use palmtop::text::Tokenizer;

use crate::Opaque;

/// To ids and back.
pub fn tokenizer(opaque: &mut Opaque) {
    let Ok(palm) = black_box(Palm::parse(opaque.bytes)) else {
        return;
    };
    let Some(tokenizer) = black_box(Tokenizer::of(&palm)) else {
        return;
    };
    if let Ok(text) = str::from_utf8(opaque.arena) {
        let _ = black_box(tokenizer.encode(text, opaque.ids));
    }
    black_box(tokenizer.piece(opaque.number(0)));
    black_box(tokenizer.separator());
    tokenizer.decode(opaque.ids, |piece| {
        black_box(piece);
    });
}
