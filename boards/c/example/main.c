/* Text to text from C: the words of the command line, or one of its own, through the model that
 * model.S puts into flash. The work is done in bounded pieces, so that a real loop would serve its
 * other duties where `pieces` is counted here. */
#include "palmtop.h"
#include "port.h"

enum {
    SOURCE = 32,
    TARGET = 48,
    /* Of this model with these limits: `palmtop inspect MODEL --source 32 --target 48` says how
     * many bytes are exactly enough. */
#ifndef ARENA_BYTES
    ARENA_BYTES = 64 * 1024,
#endif
};

extern const uint8_t model_start[], model_end[];

/* All of the library's memory; none of it is on the heap. */
static palmtop_model model;
static palmtop_session session;
static uint8_t arena[ARENA_BYTES] __attribute__((aligned(16)));

static uint32_t ids[TARGET];
static char text[256];

static void stop(const char *what, palmtop_status status, const palmtop_detail *detail)
{
    put_text("error ");
    put_text(what);
    put_text(" ");
    put_text(palmtop_status_name(status));
    if (detail->needed != 0) {
        put_number(detail->needed);
        put_number(detail->got);
    }
    put_text("\n");
    leave(1);
}

/* CRC-32 of memory, bit by bit: to show that the logits are the host's, not something to copy. */
static uint32_t crc(uint32_t value, const void *memory, size_t bytes)
{
    for (const uint8_t *at = memory; bytes-- > 0; ++at) {
        value ^= *at;
        for (int bit = 0; bit < 8; ++bit)
            value = value >> 1 ^ (0xEDB88320u & (0u - (value & 1)));
    }
    return value;
}

static void pronounce(const char *word, size_t length)
{
    const palmtop_detail nothing = {0};
    size_t count = 0, values = 0, generated = 0;
    uint32_t pieces = 0, checksum = ~0u, id = palmtop_start_token(&model);

    palmtop_status status = palmtop_text_to_ids(&model, word, length, ids, SOURCE, &count);
    if (status != PALMTOP_OK)
        stop("text", status, &nothing);

    status = palmtop_encode_begin(&session, ids, count);
    if (status == PALMTOP_OK)
        while ((status = palmtop_encode_poll(&session)) == PALMTOP_PENDING)
            ++pieces; /* A real loop serves its other duties here. */
    if (status != PALMTOP_OK)
        stop("encode", status, &nothing);

    while (generated < TARGET) {
        status = palmtop_step_begin(&session, id);
        if (status == PALMTOP_OK)
            while ((status = palmtop_step_poll(&session)) == PALMTOP_PENDING)
                ++pieces; /* And here. */
        if (status == PALMTOP_OK)
            status = palmtop_choose(&session, TARGET, &id);
        if (status != PALMTOP_OK)
            stop("step", status, &nothing);
        const float *logits = palmtop_logits(&session, &values);
        checksum = crc(checksum, logits, values * sizeof *logits);
        ids[generated++] = id;
        if (id == palmtop_end_token(&model))
            break;
    }

    status = palmtop_ids_to_text(&model, ids, generated, text, sizeof text, NULL);
    if (status != PALMTOP_OK)
        stop("ids", status, &nothing);
    put_text("word ");
    put_text(text);
    put_text("\nlogits");
    put_number(generated);
    put_number(~checksum);
    put_number(pieces);
    put_text("\n");
}

int main(void)
{
    palmtop_detail detail = {0};
    const palmtop_limits limits = {SOURCE, TARGET};

    palmtop_status status = palmtop_model_open(&model, model_start, model_end - model_start,
                                               PALMTOP_CHECK_ALL, &detail);
    if (status != PALMTOP_OK)
        stop("model", status, &detail);
    put_text("arena");
    put_number(palmtop_arena_bytes(&model, limits));
    put_text("\n");
    status = palmtop_session_open(&session, &model, limits, arena, sizeof arena, &detail);
    if (status != PALMTOP_OK)
        stop("session", status, &detail);

    /* Does this device compute the bits that the file was made with? */
    status = palmtop_self_test(&session, ids, SOURCE);
    put_text("selftest ");
    put_text(palmtop_status_name(status));
    put_text("\n");

    const char *word = command_line();
    while (*word != '\0') {
        size_t length = 0;
        while (word[length] != '\0' && word[length] != ' ')
            ++length;
        if (length > 0)
            pronounce(word, length);
        word += length;
        while (*word == ' ')
            ++word;
    }
    put_text("done\n");
    leave(0);
}
