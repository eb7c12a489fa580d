/* palmtop: sparse mixture-of-experts encoder-decoder Transformers on microcontrollers.
 *
 * Made by cbindgen from tools/capi; do not edit. Rules for all functions:
 *
 * - A pointer is NULL, which is refused where the function does not say what it means, or it is
 *   valid for as many values as the call says, for as long as the call (an image and an arena: as
 *   long as the model and the session are used).
 * - The memory of a palmtop_model or palmtop_session is yours: start with zeros. Each is used by one
 *   thread at a time; a session is not moved or copied once it is open.
 * - Memory given for writing is not used by others meanwhile and does not overlap.
 *
 * There is no heap and no global state; nothing has to be closed. Nothing here panics.
 */

#ifndef PALMTOP_H
#define PALMTOP_H

#include <stddef.h>
#include <stdint.h>

// Check the header, the tables and their CRC: quick, whatever the model's size.
#define PALMTOP_CHECK_HEAD 0

// Check every CRC of the image too: reads all of it once.
#define PALMTOP_CHECK_ALL 1

// No token.
#define PALMTOP_NO_TOKEN UINT32_MAX

// What a function has to say: 0 is well done, 1 means that there is more to do, less than 0 an
// error.
enum palmtop_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Done.
  PALMTOP_OK = 0,
  // There is more to do: poll again.
  PALMTOP_PENDING = 1,
  // A pointer is NULL that must not be.
  PALMTOP_NULL = -1,
  // A pointer is not aligned for what it points to, or a length is impossible.
  PALMTOP_MISALIGNED = -2,
  // The model or session has not been opened.
  PALMTOP_NOT_OPEN = -3,
  // Not in this order: a step before an encoding, a poll with nothing under way.
  PALMTOP_ORDER = -4,
  // An argument is none of the values that are allowed.
  PALMTOP_ARGUMENT = -5,
  // Refused for a reason that this version of the header has no code for.
  PALMTOP_REFUSED = -6,
  // The image is shorter than it says: `needed`, `got`.
  PALMTOP_TRUNCATED = -20,
  // The image is longer than the `needed` bytes that it states.
  PALMTOP_TRAILING_BYTES = -21,
  // The image must lie at a multiple of 16.
  PALMTOP_MODEL_MISALIGNED = -22,
  // Not a .palm file.
  PALMTOP_MAGIC = -23,
  // A version that this library does not read: major in `index`, minor in `got`.
  PALMTOP_VERSION = -24,
  // Header or tables are damaged.
  PALMTOP_HEAD_CRC = -25,
  // Section `index` lies where it must not.
  PALMTOP_SECTION = -26,
  // Section `index` is damaged.
  PALMTOP_SECTION_CRC = -27,
  // Table `field` lies outside the head.
  PALMTOP_TABLE = -28,
  // Header field `field` has a value that is not allowed.
  PALMTOP_HEADER = -29,
  // Field `field` of tensor `index` is not allowed.
  PALMTOP_TENSOR = -30,
  // Field `field` of layer `index` is not allowed.
  PALMTOP_LAYER = -31,
  // Field `field` of expert `index` is not allowed.
  PALMTOP_EXPERT = -32,
  // Expert `index` is damaged.
  PALMTOP_EXPERT_CRC = -33,
  // Field `field` of the tokenizer is not allowed.
  PALMTOP_TOKENIZER = -34,
  // The golden section is not consistent.
  PALMTOP_GOLDEN = -35,
  // This build of the library leaves out what the file needs: cargo feature `field`.
  PALMTOP_LEFT_OUT = -36,
  // The arena is too small: `needed`, `got`.
  PALMTOP_ARENA_TOO_SMALL = -50,
  // The arena must lie at a multiple of 16.
  PALMTOP_ARENA_MISALIGNED = -51,
  // The limit of source tokens must be from 1 to `needed`.
  PALMTOP_SOURCE_LIMIT = -52,
  // The limit of target tokens must be from 1 to `needed`.
  PALMTOP_TARGET_LIMIT = -53,
  // The source has no tokens.
  PALMTOP_EMPTY_SOURCE = -54,
  // The source has more tokens than the session's limit.
  PALMTOP_SOURCE_TOO_LONG = -55,
  // All positions of the session's target limit are used.
  PALMTOP_TARGET_FULL = -56,
  // A token id is not in the vocabulary.
  PALMTOP_TOKEN = -57,
  // An expert could not be read; the call may be repeated.
  PALMTOP_STORAGE_READ = -58,
  // An expert that was read is damaged; the call may be repeated.
  PALMTOP_STORAGE_CRC = -59,
  // The image does not hold the experts.
  PALMTOP_EXPERTS_ABSENT = -60,
  // A decoder-only model has nothing to encode.
  PALMTOP_NO_ENCODER = -61,
  // The model has an encoder: encode first.
  PALMTOP_HAS_ENCODER = -62,
  // The model has no golden section to test against.
  PALMTOP_NO_GOLDEN = -63,
  // The self-test computed other bits than the golden section has.
  PALMTOP_GOLDEN_MISMATCH = -64,
  // The model has no tokenizer.
  PALMTOP_NO_TOKENIZER = -80,
  // The text is empty.
  PALMTOP_TEXT_EMPTY = -81,
  // There is no room for the ids, or for the text.
  PALMTOP_TEXT_TOO_LONG = -82,
  // The vocabulary does not have a character.
  PALMTOP_UNKNOWN_CHARACTER = -83,
  // The text is not UTF-8.
  PALMTOP_NOT_UTF8 = -84,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum palmtop_status palmtop_status;
#else
typedef int32_t palmtop_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A checked view of a .palm image. The memory is the caller's, the content the library's; start
// with zeros (a static, or `= {0}`). May be copied.
typedef struct palmtop_model {
  // Not for use.
  uint64_t opaque[68];
} palmtop_model;

// Bytes of text that lie elsewhere (in flash), without a zero at their end: print them with "%.*s".
typedef struct palmtop_text {
  // The first byte; never NULL.
  const char *start;
  // How many there are.
  size_t length;
} palmtop_text;

// Numbers and a name that go with an error, as the codes say; 0 and empty where they say nothing.
typedef struct palmtop_detail {
  // Name of a field or table.
  struct palmtop_text field;
  // Index of the section, tensor, layer or expert.
  uint32_t index;
  // The number that would do.
  size_t needed;
  // The number that was given or found.
  size_t got;
} palmtop_detail;

// How long sources and targets may become; the arena is planned for it.
typedef struct palmtop_limits {
  // Tokens of a source.
  uint32_t source;
  // Tokens of a target.
  uint32_t target;
} palmtop_limits;

// A model at work. The memory is the caller's, the content the library's; start with zeros, and
// neither move nor copy it once it is open.
typedef struct palmtop_session {
  // Not for use.
  uint64_t opaque[96];
} palmtop_session;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens an image: checks it, as `check` says (PALMTOP_CHECK_HEAD or PALMTOP_CHECK_ALL), and writes
// the view of it to `model`. The image stays where it is, at a multiple of 16, and is not copied.
// `detail` may be NULL.
palmtop_status palmtop_model_open(struct palmtop_model *model,
                                  const uint8_t *image,
                                  size_t length,
                                  uint32_t check,
                                  struct palmtop_detail *detail);

// Checks every CRC of an opened image: for who opened it with PALMTOP_CHECK_HEAD and has time
// now. `detail` may be NULL.
palmtop_status palmtop_model_verify(const struct palmtop_model *model,
                                    struct palmtop_detail *detail);

// How long the image is that begins at `start`, where at least 256 bytes can be read: for a
// partition whose content is as long as it says.
palmtop_status palmtop_image_length(const uint8_t *start, size_t readable, size_t *length);

// The limits that the file proposes; zeros for what is no opened model.
struct palmtop_limits palmtop_default_limits(const struct palmtop_model *model);

// Bytes of the arena that a session with these limits needs: exactly so many are enough. 0 for
// what is no opened model.
size_t palmtop_arena_bytes(const struct palmtop_model *model, struct palmtop_limits limits);

// The token that a target begins with; PALMTOP_NO_TOKEN for what is no opened model.
uint32_t palmtop_start_token(const struct palmtop_model *model);

// The token that ends a target; PALMTOP_NO_TOKEN if there is none.
uint32_t palmtop_end_token(const struct palmtop_model *model);

// Size of the vocabulary, which is the number of logits; 0 for what is no opened model.
uint32_t palmtop_vocabulary(const struct palmtop_model *model);

// Opens a session over an arena of at least `palmtop_arena_bytes` bytes at a multiple of 16.
// `detail` may be NULL. The model's view may go afterwards; image and arena stay.
palmtop_status palmtop_session_open(struct palmtop_session *session,
                                    const struct palmtop_model *model,
                                    struct palmtop_limits limits,
                                    uint8_t *arena,
                                    size_t arena_bytes,
                                    struct palmtop_detail *detail);

// Begins to encode a source; `palmtop_encode_poll` does the work in bounded pieces. What was under
// way is given up.
palmtop_status palmtop_encode_begin(struct palmtop_session *session,
                                    const uint32_t *ids,
                                    size_t count);

// Does one unit of work of an encoding: PALMTOP_PENDING while there is more, then PALMTOP_OK.
palmtop_status palmtop_encode_poll(struct palmtop_session *session);

// Encodes a source: `palmtop_encode_begin`, and `palmtop_encode_poll` to its end.
palmtop_status palmtop_encode(struct palmtop_session *session, const uint32_t *ids, size_t count);

// The encoder states, `count` values, from the end of an encoding up to the first step; NULL at
// any other time.
const float *palmtop_hidden(struct palmtop_session *session, size_t *count);

// Feeds a token at the next position; `palmtop_step_poll` does the work in bounded pieces. A step
// that was under way is given up, its position used anew.
palmtop_status palmtop_step_begin(struct palmtop_session *session, uint32_t id);

// Does one unit of work of a step: PALMTOP_PENDING while there is more, then PALMTOP_OK.
palmtop_status palmtop_step_poll(struct palmtop_session *session);

// Feeds a token and runs it through: `palmtop_step_begin`, and `palmtop_step_poll` to its end.
palmtop_status palmtop_step(struct palmtop_session *session, uint32_t id);

// The logits of the last finished step, `count` values, up to the next step; NULL while there are
// none.
const float *palmtop_logits(struct palmtop_session *session, size_t *count);

// The token that greedy search takes after the last finished step: that of the greatest logit, or
// the one that the model forces at the first and at the last of `max_tokens` places.
palmtop_status palmtop_choose(struct palmtop_session *session, size_t max_tokens, uint32_t *id);

// Forgets the target, so that the next step is the first; the source stays encoded.
palmtop_status palmtop_restart(struct palmtop_session *session);

// Generates a whole target by greedy search: at most `max_tokens` ids, and no more than `capacity`,
// the end token included. Takes as long as all its steps; `palmtop_step_poll` is for who may not.
palmtop_status palmtop_generate(struct palmtop_session *session,
                                size_t max_tokens,
                                uint32_t *ids,
                                size_t capacity,
                                size_t *count);

// Gives up what is under way; the session is as it was after it was opened.
palmtop_status palmtop_cancel(struct palmtop_session *session);

// Runs the input that the file carries and compares the bits of all results with those that it
// should give. `ids` is room for the source of that input. What was under way is given up.
palmtop_status palmtop_self_test(struct palmtop_session *session, uint32_t *ids, size_t capacity);

// The name of a code, such as "PALMTOP_ARENA_TOO_SMALL"; "PALMTOP_?" for what is none.
const char *palmtop_status_name(int32_t status);

// Writes the ids of UTF-8 text of `length` bytes, with what the model wants before and after, and
// how many there are.
palmtop_status palmtop_text_to_ids(const struct palmtop_model *model,
                                   const char *text,
                                   size_t length,
                                   uint32_t *ids,
                                   size_t capacity,
                                   size_t *count);

// What `id` prints; empty for ids that print nothing. With bytes as tokens, one byte: a character
// may take several.
struct palmtop_text palmtop_piece(const struct palmtop_model *model, uint32_t id);

// What is printed between two pieces that are not empty.
struct palmtop_text palmtop_separator(const struct palmtop_model *model);

// Writes the text of ids with a zero at its end, and its length without that (`length` may be
// NULL). What does not fit is refused, with an empty text.
palmtop_status palmtop_ids_to_text(const struct palmtop_model *model,
                                   const uint32_t *ids,
                                   size_t count,
                                   char *text,
                                   size_t capacity,
                                   size_t *length);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PALMTOP_H */
