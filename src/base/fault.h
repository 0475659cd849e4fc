/* SPDX-License-Identifier: Apache-2.0 */
/* Named fault points: places where a test may kill the process, delay it or make a call fail.
 *
 * Built in only with the CMake option DROVER_FAULTS; without it the macros vanish. Armed by the
 * environment: DROVER_FAULT="name[@n]=kill|error|full|delay:MS[,name...]": the n-th passing
 * (default 1) of that point acts. DROVER_FAULT_LOG=FILE appends each point's name at its first
 * passing (the crash test learns the list that way). DROVER_IO_FAIL=n makes the n-th file operation
 * (base/file.h) fail with an I/O error. */
#ifndef DR_BASE_FAULT_H
#define DR_BASE_FAULT_H

#include <stdint.h>

#include "base/err.h"

#ifdef DROVER_FAULTS
/* Pass the point `name`: DR_OK mostly, DR_IO or DR_FULL with a message when armed so. */
enum dr_code dr_fault_pass(const char *name, struct dr_err *err);
/* Pass a point where an error makes no sense: only kill and delay act. */
void dr_fault_mark(const char *name);
/* Arm from a string instead of the environment (unit tests); NULL disarms. */
void dr_fault_arm(const char *spec);
/* Make the n-th file operation from now fail; 0 is off; returns operations since the last call. */
uint64_t dr_fault_io_at(uint64_t n);
int dr_fault_io_pass(
    void); /* 0, or an errno to fail with; base/file.c asks before each operation */
#else
#define dr_fault_pass(name, err) ((void)(name), (void)(err), (enum dr_code)DR_OK)
#define dr_fault_mark(name) ((void)(name))
#define dr_fault_io_pass() (0)
#endif

#endif
