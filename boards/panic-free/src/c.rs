//! Every function for C, with pointers and numbers of which the compiler knows nothing.

use core::hint::black_box;

use palmtop_capi as c;

use crate::Opaque;

/// All of them.
pub fn calls(opaque: &mut Opaque) {
    let number = opaque.number(0);
    let size = opaque.number(1) as usize;
    let limits = c::palmtop_limits {
        source: opaque.number(2),
        target: opaque.number(3),
    };
    let bytes = black_box(opaque.bytes.as_ptr());
    let arena = black_box(opaque.arena.as_mut_ptr());
    let ids = black_box(opaque.ids.as_mut_ptr());
    let text = black_box(opaque.signed.as_mut_ptr()).cast();
    let model: *mut c::palmtop_model = black_box(opaque.floats.as_mut_ptr()).cast();
    let session: *mut c::palmtop_session = black_box(opaque.others.as_mut_ptr()).cast();
    let count: *mut usize = black_box(opaque.shorts.as_mut_ptr()).cast();
    let detail: *mut c::palmtop_detail = black_box(opaque.shorts.as_mut_ptr()).cast();
    // SAFETY: the program is linked and never run.
    unsafe {
        black_box(c::palmtop_model_open(model, bytes, size, number, detail));
        black_box(c::palmtop_model_verify(model, detail));
        black_box(c::palmtop_image_length(bytes, size, count));
        black_box(c::palmtop_default_limits(model));
        black_box(c::palmtop_arena_bytes(model, limits));
        black_box(c::palmtop_start_token(model));
        black_box(c::palmtop_end_token(model));
        black_box(c::palmtop_vocabulary(model));
        black_box(c::palmtop_session_open(
            session, model, limits, arena, size, detail,
        ));
        black_box(c::palmtop_encode_begin(session, ids, size));
        black_box(c::palmtop_encode_poll(session));
        black_box(c::palmtop_encode(session, ids, size));
        black_box(c::palmtop_hidden(session, count));
        black_box(c::palmtop_step_begin(session, number));
        black_box(c::palmtop_step_poll(session));
        black_box(c::palmtop_step(session, number));
        black_box(c::palmtop_logits(session, count));
        black_box(c::palmtop_choose(session, size, ids));
        black_box(c::palmtop_restart(session));
        black_box(c::palmtop_generate(session, size, ids, size, count));
        black_box(c::palmtop_cancel(session));
        black_box(c::palmtop_self_test(session, ids, size));
        black_box(c::palmtop_text_to_ids(model, text, size, ids, size, count));
        black_box(c::palmtop_ids_to_text(model, ids, size, text, size, count));
        black_box(c::palmtop_piece(model, number));
        black_box(c::palmtop_separator(model));
    }
    black_box(c::palmtop_status_name(number as i32));
}
