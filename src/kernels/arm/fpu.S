// Products of float rows on Arm cores with a single-precision FPU, in the contract's eight lanes:
// each product is rounded before it is added.

    .syntax unified
    .thumb
    .fpu fpv4-sp-d16

// Eight products: s8-s15 by eight registers from s\w on, added to the lanes s0-s7.
    .macro PF_EIGHT w0, w1, w2, w3, w4, w5, w6, w7
    vmul.f32 s8, s8, s\w0
    vmul.f32 s9, s9, s\w1
    vmul.f32 s10, s10, s\w2
    vmul.f32 s11, s11, s\w3
    vmul.f32 s12, s12, s\w4
    vmul.f32 s13, s13, s\w5
    vmul.f32 s14, s14, s\w6
    vmul.f32 s15, s15, s\w7
    vadd.f32 s0, s0, s8
    vadd.f32 s1, s1, s9
    vadd.f32 s2, s2, s10
    vadd.f32 s3, s3, s11
    vadd.f32 s4, s4, s12
    vadd.f32 s5, s5, s13
    vadd.f32 s6, s6, s14
    vadd.f32 s7, s7, s15
    .endm

// Both halves of a register, widened exactly.
    .macro PF_WIDEN to, next, from
    vcvtb.f32.f16 s\to, s\from
    vcvtt.f32.f16 s\next, s\from
    .endm

// palmtop_fpu_dot(lanes, a, b, eights): adds `eights` times eight products to eight lanes.
    .section .text.palmtop_fpu_dot, "ax", %progbits
    .global palmtop_fpu_dot
    .type palmtop_fpu_dot, %function
    .thumb_func
    .balign 4
palmtop_fpu_dot:
    vpush {s16-s23}
    vldmia r0, {s0-s7}
1:  vldmia r1!, {s8-s15}
    vldmia r2!, {s16-s23}
    PF_EIGHT 16, 17, 18, 19, 20, 21, 22, 23
    subs r3, r3, #1
    bne 1b
    vstmia r0, {s0-s7}
    vpop {s16-s23}
    bx lr
    .size palmtop_fpu_dot, . - palmtop_fpu_dot

// The same with half-precision b.
    .section .text.palmtop_fpu_dot_f16, "ax", %progbits
    .global palmtop_fpu_dot_f16
    .type palmtop_fpu_dot_f16, %function
    .thumb_func
    .balign 4
palmtop_fpu_dot_f16:
    vpush {s16-s27}
    vldmia r0, {s0-s7}
1:  vldmia r1!, {s8-s15}
    vldmia r2!, {s24-s27}
    PF_WIDEN 16, 17, 24
    PF_WIDEN 18, 19, 25
    PF_WIDEN 20, 21, 26
    PF_WIDEN 22, 23, 27
    PF_EIGHT 16, 17, 18, 19, 20, 21, 22, 23
    subs r3, r3, #1
    bne 1b
    vstmia r0, {s0-s7}
    vpop {s16-s27}
    bx lr
    .size palmtop_fpu_dot_f16, . - palmtop_fpu_dot_f16

// name(lanes, x, w, shape): shape is the bytes from row to row of x, the number of rows, and the
// number of times sixteen weights; each row has eight lanes. Weights stay in s16-s31 for all rows.
    .macro PF_ROWS name, half
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 4
\name:
    push {r4-r8, lr}
    vpush {s16-s31}
    ldmia r3, {r3, r4, r5}
    sub r3, r3, #32
    .if \half
1:  vldmia r2!, {s8-s15}
    PF_WIDEN 16, 17, 8
    PF_WIDEN 18, 19, 9
    PF_WIDEN 20, 21, 10
    PF_WIDEN 22, 23, 11
    PF_WIDEN 24, 25, 12
    PF_WIDEN 26, 27, 13
    PF_WIDEN 28, 29, 14
    PF_WIDEN 30, 31, 15
    .else
1:  vldmia r2!, {s16-s31}
    .endif
    mov r6, r0
    mov r7, r1
    mov r8, r4
2:  vldmia r6, {s0-s7}
    vldmia r7!, {s8-s15}
    PF_EIGHT 16, 17, 18, 19, 20, 21, 22, 23
    vldmia r7, {s8-s15}
    PF_EIGHT 24, 25, 26, 27, 28, 29, 30, 31
    vstmia r6!, {s0-s7}
    add r7, r7, r3
    subs r8, r8, #1
    bne 2b
    add r1, r1, #64
    subs r5, r5, #1
    bne 1b
    vpop {s16-s31}
    pop {r4-r8, pc}
    .size \name, . - \name
    .endm

    PF_ROWS palmtop_fpu_rows, 0
    PF_ROWS palmtop_fpu_rows_f16, 1
