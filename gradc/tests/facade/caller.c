/* Runs a compiled model twice over the bytes of standard input, and writes status and results to standard output. */
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const size_t input_bytes[] = MODEL_INPUT_BYTES, output_bytes[] = MODEL_OUTPUT_BYTES;
    const void *inputs[MODEL_INPUTS];
    void *outputs[MODEL_OUTPUTS];
    /* The inputs whose positions are named take the value in the file. */
    for (size_t i = 0; i < MODEL_INPUTS; i++) {
        int standing = 0;
        for (int k = 2; k < argc; k++) standing |= (size_t)atoi(argv[k]) == i;
        void *memory = aligned_alloc(64, input_bytes[i] / 64 * 64 + 64);
        if (!standing && fread(memory, 1, input_bytes[i], stdin) != input_bytes[i]) return 2;
        inputs[i] = standing ? NULL : memory;
    }
    for (size_t i = 0; i < MODEL_OUTPUTS; i++) outputs[i] = aligned_alloc(64, output_bytes[i] / 64 * 64 + 64);
    char *arena = aligned_alloc(MODEL_ARENA_ALIGNMENT, MODEL_ARENA_BYTES / MODEL_ARENA_ALIGNMENT * MODEL_ARENA_ALIGNMENT + MODEL_ARENA_ALIGNMENT);
    memset(arena, 0xFF, MODEL_ARENA_BYTES);
    /* What lies behind the arena must stay. */
    char behind[MODEL_ARENA_ALIGNMENT];
    size_t rest = MODEL_ARENA_ALIGNMENT - MODEL_ARENA_BYTES % MODEL_ARENA_ALIGNMENT;
    memset(behind, 0x5A, sizeof behind);
    memset(arena + MODEL_ARENA_BYTES, 0x5A, rest);
    size_t threads = (size_t)atoi(argv[1]);
    gradc_team *team = threads == 0 ? NULL : gradc_team_new(threads);
    int64_t status = 0;
    for (int round = 0; round < 2 && status == 0; round++) {
        status = model_run(inputs, outputs, arena, team);
    }
    gradc_team_free(team);
    if (memcmp(arena + MODEL_ARENA_BYTES, behind, rest) != 0) return 3;
    fwrite(&status, sizeof status, 1, stdout);
    for (size_t i = 0; i < MODEL_OUTPUTS; i++) fwrite(outputs[i], 1, output_bytes[i], stdout);
    return 0;
}
