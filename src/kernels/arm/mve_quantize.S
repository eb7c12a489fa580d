// Quantization of rows with Helium. Bits of floats are compared as whole numbers. Where a product of
// the second step is subnormal and flushed to zero, it is rounded to zero in any case.

    .syntax unified
    .thumb

// palmtop_quantize_bounds(x, fours, bounds): raises two words to the greatest bits of four times
// `fours` floats: as signed numbers and as unsigned ones.
    .section .text.palmtop_quantize_bounds, "ax", %progbits
    .global palmtop_quantize_bounds
    .type palmtop_quantize_bounds, %function
    .thumb_func
    .balign 4
palmtop_quantize_bounds:
    push {r4, lr}
    ldrd r3, r4, [r2]
    dls lr, r1
1:  vldrw.u32 q0, [r0], #16
    vmaxv.s32 r3, q0
    vmaxv.u32 r4, q0
    le lr, 1b
    strd r3, r4, [r2]
    pop {r4, pc}
    .size palmtop_quantize_bounds, . - palmtop_quantize_bounds

// palmtop_quantize_greatest(x, fours): the greatest bits of four times `fours` floats, without their
// signs and shifted up by one.
    .section .text.palmtop_quantize_greatest, "ax", %progbits
    .global palmtop_quantize_greatest
    .type palmtop_quantize_greatest, %function
    .thumb_func
    .balign 4
palmtop_quantize_greatest:
    push {r4, lr}
    movs r2, #0
    dls lr, r1
1:  vldrw.u32 q0, [r0], #16
    vshl.i32 q0, q0, #1
    vmaxv.u32 r2, q0
    le lr, 1b
    mov r0, r2
    pop {r4, pc}
    .size palmtop_quantize_greatest, . - palmtop_quantize_greatest

// palmtop_quantize_steps(x, q, fours, inverse, zero): four times `fours` bytes rne(x * inverse) + zero.
    .section .text.palmtop_quantize_steps, "ax", %progbits
    .global palmtop_quantize_steps
    .type palmtop_quantize_steps, %function
    .thumb_func
    .balign 4
palmtop_quantize_steps:
    push {r4, lr}
    ldr r3, [r3]
    ldr r12, [sp, #8]
    movw r4, #0
    movt r4, #0x4B40
    dls lr, r2
    // The lowest byte of a sum's bits is that of the whole number.
1:  vldrw.u32 q0, [r0], #16
    vmul.f32 q0, q0, r3
    vadd.f32 q0, q0, r4
    vadd.i32 q0, q0, r12
    vstrb.32 q0, [r1], #4
    le lr, 1b
    pop {r4, pc}
    .size palmtop_quantize_steps, . - palmtop_quantize_steps
