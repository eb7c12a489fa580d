/* The model as it lies in flash: at a multiple of 16, copied nowhere. MODEL is a quoted path. */
    .section .rodata.model, "a"
    .balign 16
    .global model_start, model_end
model_start:
    .incbin MODEL
model_end:
