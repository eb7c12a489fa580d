// Quantization of rows on cores with the DSP extension and a float unit.

    .syntax unified
    .thumb

    .macro PQ_BOUNDS value, at
    cmp \value, r3
    bgt 1\at\()f
3\at:
    cmp \value, r12
    bhi 2\at\()f
4\at:
    .endm
    .macro PQ_WIDER value, at
1\at:
    mov r3, \value
    b 3\at\()b
2\at:
    mov r12, \value
    b 4\at\()b
    .endm

// palmtop_quantize_bounds(x, fours, bounds): raises two words to the greatest bits of four times
// `fours` floats: as signed numbers and as unsigned ones.
    .section .text.palmtop_quantize_bounds, "ax", %progbits
    .global palmtop_quantize_bounds
    .type palmtop_quantize_bounds, %function
    .thumb_func
    .balign 4
palmtop_quantize_bounds:
    push {r4-r7, lr}
    ldrd r3, r12, [r2]
5:  ldmia r0!, {r4-r7}
    PQ_BOUNDS r4, 1
    PQ_BOUNDS r5, 2
    PQ_BOUNDS r6, 3
    PQ_BOUNDS r7, 4
    subs r1, r1, #1
    bne 5b
    strd r3, r12, [r2]
    pop {r4-r7, pc}
    // Seldom: most values are within those before them.
    PQ_WIDER r4, 1
    PQ_WIDER r5, 2
    PQ_WIDER r6, 3
    PQ_WIDER r7, 4
    .size palmtop_quantize_bounds, . - palmtop_quantize_bounds

// palmtop_quantize_greatest(x, fours): the greatest bits of four times `fours` floats, without their
// signs and shifted up by one.
    .section .text.palmtop_quantize_greatest, "ax", %progbits
    .global palmtop_quantize_greatest
    .type palmtop_quantize_greatest, %function
    .thumb_func
    .balign 4
palmtop_quantize_greatest:
    push {r4-r7, lr}
    movs r2, #0
5:  ldmia r0!, {r4-r7}
    cmp r2, r4, lsl #1
    blo 11f
21: cmp r2, r5, lsl #1
    blo 12f
22: cmp r2, r6, lsl #1
    blo 13f
23: cmp r2, r7, lsl #1
    blo 14f
24: subs r1, r1, #1
    bne 5b
    mov r0, r2
    pop {r4-r7, pc}
11: lsls r2, r4, #1
    b 21b
12: lsls r2, r5, #1
    b 22b
13: lsls r2, r6, #1
    b 23b
14: lsls r2, r7, #1
    b 24b
    .size palmtop_quantize_greatest, . - palmtop_quantize_greatest

// palmtop_quantize_steps(x, q, fours, inverse, zero): four times `fours` bytes rne(x * inverse) + zero.
    .section .text.palmtop_quantize_steps, "ax", %progbits
    .global palmtop_quantize_steps
    .type palmtop_quantize_steps, %function
    .thumb_func
    .balign 4
palmtop_quantize_steps:
    push {r4-r7, lr}
    vldr s0, [r3]
    movw r4, #0
    movt r4, #0x4B40
    vmov s1, r4
    // The zero point four times.
    ldr r3, [sp, #20]
    uxtb r3, r3
    orr r3, r3, r3, lsl #8
    orr r3, r3, r3, lsl #16
1:  vldmia r0!, {s4-s7}
    vmul.f32 s4, s4, s0
    vmul.f32 s5, s5, s0
    vmul.f32 s6, s6, s0
    vmul.f32 s7, s7, s0
    vadd.f32 s4, s4, s1
    vadd.f32 s5, s5, s1
    vadd.f32 s6, s6, s1
    vadd.f32 s7, s7, s1
    // The lowest byte of a sum's bits is that of the whole number.
    vmov r4, r5, s4, s5
    vmov r6, r7, s6, s7
    bfi r4, r5, #8, #8
    bfi r4, r6, #16, #8
    bfi r4, r7, #24, #8
    uadd8 r4, r4, r3
    str r4, [r1], #4
    subs r2, r2, #1
    bne 1b
    pop {r4-r7, pc}
    .size palmtop_quantize_steps, . - palmtop_quantize_steps
