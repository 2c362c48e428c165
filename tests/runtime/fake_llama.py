"""The source of a small libllama whose logits tell which token they belong to."""

from __future__ import annotations

from pathlib import Path

HEADER = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdbool.h>
#define LLAMA_API __attribute__ ((visibility ("default")))
#define DEPRECATED(func, hint) func __attribute__((deprecated(hint)))
struct llama_vocab;
struct llama_model;
struct llama_context;
typedef struct llama_memory_i * llama_memory_t;
typedef int32_t llama_pos;
typedef int32_t llama_token;
typedef int32_t llama_seq_id;
enum llama_split_mode { LLAMA_SPLIT_MODE_NONE = 0, LLAMA_SPLIT_MODE_LAYER = 1 };
typedef bool (*llama_progress_callback)(float progress, void * user_data);
struct llama_model_params {
    int32_t n_gpu_layers;
    enum llama_split_mode split_mode;
    const float * tensor_split;
    llama_progress_callback progress_callback;
    void * progress_callback_user_data;
    bool vocab_only;
    bool use_mmap;
};
struct llama_context_params {
    uint32_t n_ctx;
    uint32_t n_batch;
    uint32_t n_ubatch;
    uint32_t n_seq_max;
    int32_t n_threads;
    int32_t n_threads_batch;
    float rope_freq_base;
    bool embeddings;
    size_t n_samplers;
};
typedef struct llama_batch {
    int32_t n_tokens;
    llama_token * token;
    float * embd;
    llama_pos * pos;
    int32_t * n_seq_id;
    llama_seq_id ** seq_id;
    int8_t * logits;
} llama_batch;
LLAMA_API void llama_backend_init(void);
LLAMA_API void llama_backend_free(void);
LLAMA_API struct llama_model_params llama_model_default_params(void);
LLAMA_API struct llama_context_params llama_context_default_params(void);
LLAMA_API struct llama_model * llama_model_load_from_file(
    const char * path_model, struct llama_model_params params);
LLAMA_API struct llama_context * llama_init_from_model(
    struct llama_model * model, struct llama_context_params params);
LLAMA_API void llama_model_free(struct llama_model * model);
LLAMA_API void llama_free(struct llama_context * ctx);
LLAMA_API const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model);
LLAMA_API int32_t llama_vocab_n_tokens(const struct llama_vocab * vocab);
LLAMA_API bool llama_vocab_get_add_bos(const struct llama_vocab * vocab);
LLAMA_API llama_token llama_vocab_bos(const struct llama_vocab * vocab);
LLAMA_API int32_t llama_tokenize(const struct llama_vocab * vocab, const char * text,
    int32_t text_len, llama_token * tokens, int32_t n_tokens_max, bool add_special,
    bool parse_special);
LLAMA_API llama_memory_t llama_get_memory(const struct llama_context * ctx);
LLAMA_API void llama_memory_clear(llama_memory_t mem, bool data);
LLAMA_API int32_t llama_decode(struct llama_context * ctx, struct llama_batch batch);
DEPRECATED(LLAMA_API float * llama_get_logits(struct llama_context * ctx), "for the test");
"""

_OLDER_LINES = {
    "llama_model_load_from_file": "llama_load_model_from_file",
    "llama_init_from_model": "llama_new_context_with_model",
    "llama_model_free": "llama_free_model",
    "const struct llama_vocab * vocab": "const struct llama_model * vocab",
    "llama_vocab_n_tokens": "llama_n_vocab",
    "llama_vocab_get_add_bos": "llama_add_bos_token",
    "llama_vocab_bos": "llama_token_bos",
    "LLAMA_API llama_memory_t llama_get_memory(const struct llama_context * ctx);\n": "",
    "llama_memory_clear(llama_memory_t mem, bool data)": "llama_kv_cache_clear("
    "struct llama_context * ctx)",
    "LLAMA_API const struct llama_vocab * llama_model_get_vocab("
    "const struct llama_model * model);\n": "",
}


def _older(header: str) -> str:
    for today, before in _OLDER_LINES.items():
        assert today in header
        header = header.replace(today, before)
    return header


OLDER_HEADER = _older(HEADER)

# n_vocab is 4; the logits of a scored token are [token, position, sequence, threads].
# A model's file holds one word, and "crash", "refuse" and "silent" do what they say.
SOURCE = r"""
#include "llama.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#ifdef OLDER
#define llama_model_load_from_file llama_load_model_from_file
#define llama_init_from_model llama_new_context_with_model
#define llama_model_free llama_free_model
#define llama_vocab_n_tokens llama_n_vocab
#define llama_vocab_get_add_bos llama_add_bos_token
#define llama_vocab_bos llama_token_bos
#define VOCAB struct llama_model
#else
#define VOCAB struct llama_vocab
#endif
struct llama_model { char word[64]; };
struct llama_context {
    struct llama_model * model;
    struct llama_context_params params;
    int used;
    float * logits;
};
void llama_backend_init(void) {}
void llama_backend_free(void) {}
struct llama_model_params llama_model_default_params(void) {
    struct llama_model_params p = {0};
    p.use_mmap = true;
    return p;
}
struct llama_context_params llama_context_default_params(void) {
    struct llama_context_params p = {0};
    p.n_ubatch = 512;
    p.rope_freq_base = 7.0f;
    p.n_samplers = 11;
    return p;
}
struct llama_model * llama_model_load_from_file(const char * path, struct llama_model_params p) {
    FILE * file = fopen(path, "r");
    if (!file || !p.use_mmap) {
        fprintf(stderr, "fake: error loading model: %s is not there\n", path);
        return NULL;
    }
    struct llama_model * model = calloc(1, sizeof *model);
    if (fscanf(file, "%60s", model->word) != 1) model->word[0] = 0;
    fclose(file);
    return model;
}
struct llama_context * llama_init_from_model(
        struct llama_model * model, struct llama_context_params p) {
    if (p.rope_freq_base != 7.0f || p.n_samplers != 11) return NULL;
    struct llama_context * ctx = calloc(1, sizeof *ctx);
    ctx->model = model;
    ctx->params = p;
    return ctx;
}
void llama_model_free(struct llama_model * model) { free(model); }
void llama_free(struct llama_context * ctx) { free(ctx->logits); free(ctx); }
int32_t llama_vocab_n_tokens(const VOCAB * vocab) { return 4; }
bool llama_vocab_get_add_bos(const VOCAB * vocab) { return true; }
llama_token llama_vocab_bos(const VOCAB * vocab) { return 2; }
int32_t llama_tokenize(const VOCAB * vocab, const char * text, int32_t n, llama_token * tokens,
        int32_t room, bool add_special, bool parse_special) {
    int32_t needed = n + (add_special ? 1 : 0);
    if (strstr(text, "long")) needed += 100;  /* more than a token a byte */
    if (needed > room) return -needed;
    for (int i = 0; i < needed; i++) tokens[i] = i == 0 && add_special ? 2 : 3;
    return needed;
}
#ifdef OLDER
void llama_kv_cache_clear(struct llama_context * ctx) { ctx->used = 0; }
#else
const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model) {
    return (const struct llama_vocab *) model;
}
llama_memory_t llama_get_memory(const struct llama_context * ctx) { return (llama_memory_t) ctx; }
void llama_memory_clear(llama_memory_t mem, bool data) {
    ((struct llama_context *) mem)->used = 0;
}
#endif
int32_t llama_decode(struct llama_context * ctx, struct llama_batch batch) {
    if (!strcmp(ctx->model->word, "crash")) raise(SIGSEGV);
    if (!strcmp(ctx->model->word, "refuse")) return -3;
    if (ctx->used || (uint32_t) batch.n_tokens > ctx->params.n_batch || batch.embd) return 1;
    ctx->used = batch.n_tokens;
    ctx->logits = realloc(ctx->logits, sizeof(float) * 4 * batch.n_tokens);
    float * row = ctx->logits;
    for (int i = 0; i < batch.n_tokens; i++) {
        if (!batch.logits[i]) continue;
        if (batch.n_seq_id[i] != 1 || batch.seq_id[i][0] >= (int) ctx->params.n_seq_max) return 1;
        row[0] = batch.token[i];
        row[1] = batch.pos[i];
        row[2] = batch.seq_id[i][0];
        row[3] = ctx->params.n_threads_batch;
        row += 4;
    }
    return 0;
}
float * llama_get_logits(struct llama_context * ctx) {
    return strcmp(ctx->model->word, "silent") ? ctx->logits : NULL;
}
"""


def make_tree(folder: Path, header: str) -> Path:
    """Write a tree that has just the one header."""
    (folder / "include").mkdir(parents=True)
    (folder / "include" / "llama.h").write_text(header)
    return folder
