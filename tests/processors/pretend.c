// Makes a process, and all that it starts, take this processor for another one: what the instruction CPUID says comes
// from a table instead. Libraries then choose the loops that they would choose there, at this machine's full speed.
//
//   cc -O2 -shared -fPIC -o pretend.so pretend.c
//   LD_PRELOAD=.../pretend.so PRETEND_CPUID=table command
//
// Linux lets a process have CPUID fault (arch_prctl, `cpuid_fault` in /proc/cpuinfo); the handler answers it.
// A table has lines "leaf subleaf eax ebx ecx edx" in hexadecimal; print_cpuid.c makes one.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
enum { ROWS = 256 };
static unsigned table[ROWS][6];
static int rows;

static const unsigned *answer(unsigned leaf, unsigned subleaf) {
    static const unsigned nothing[6];
    const unsigned *first = nothing;
    for (int row = 0; row < rows; row++) {
        if (table[row][0] != leaf) continue;
        if (table[row][1] == subleaf) return table[row];
        // A leaf without parts answers the same whatever the part that is asked for.
        if (table[row][1] == 0 && (row + 1 == rows || table[row + 1][0] != leaf)) first = table[row];
    }
    return first;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    if (info->si_code != SI_KERNEL || code[0] != 0x0f || code[1] != 0xa2) {
        signal(number, SIG_DFL);  // a fault of the program's own: it happens again, and ends it
        return;
    }
    const unsigned *row = answer((unsigned)registers[REG_RAX], (unsigned)registers[REG_RCX]);
    registers[REG_RAX] = row[2];
    registers[REG_RBX] = row[3];
    registers[REG_RCX] = row[4];
    registers[REG_RDX] = row[5];
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void pretend(void) {
    const char *path = getenv("PRETEND_CPUID");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) {
        fprintf(stderr, "pretend: PRETEND_CPUID names no readable table\n");
        _exit(127);
    }
    unsigned *row = table[0];
    while (rows < ROWS && (row = table[rows]) &&
           fscanf(file, "%x %x %x %x %x %x", row, row + 1, row + 2, row + 3, row + 4, row + 5) == 6)
        rows++;
    fclose(file);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (rows == 0 || sigaction(SIGSEGV, &action, NULL) || syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
        fprintf(stderr, "pretend: this processor or kernel cannot have CPUID fault, or the table is empty\n");
        _exit(127);
    }
}
