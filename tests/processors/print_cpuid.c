// Prints what the instruction CPUID answers, as a table for pretend.c: leaf subleaf eax ebx ecx edx, in hexadecimal.
//
//   cc -static -o print_cpuid print_cpuid.c && qemu-x86_64 -cpu EPYC ./print_cpuid > epyc.cpuid
#include <cpuid.h>
#include <stdio.h>

static unsigned parts(unsigned leaf) {
    switch (leaf) {
    case 0x4: case 0x7: case 0xb: case 0x14: case 0x17: case 0x18: case 0x1d: case 0x1f: case 0x8000001d: return 4;
    case 0xd: return 20;
    default: return 1;
    }
}

int main(void) {
    const unsigned first[] = {0x0, 0x80000000};
    for (int range = 0; range < 2; range++) {
        unsigned last, b, c, d;
        __cpuid_count(first[range], 0, last, b, c, d);
        for (unsigned leaf = first[range]; leaf <= last; leaf++) {
            for (unsigned subleaf = 0; subleaf < parts(leaf); subleaf++) {
                unsigned a;
                __cpuid_count(leaf, subleaf, a, b, c, d);
                printf("%x %x %x %x %x %x\n", leaf, subleaf, a, b, c, d);
            }
        }
    }
    return 0;
}
