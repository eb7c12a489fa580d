//! Checkpoints so small that their images are a few kilobytes: for tests that look at every byte,
//! for fuzzing, and for the image that is committed as `tests/fixtures/tiny/tiny.palm`.
//!
//! Weights come from a fixed generator, so the same call writes the same folder everywhere.
#![allow(dead_code)]

use serde_json::{Map, Value, json};
use std::path::Path;

/// Which family a tiny checkpoint is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    T5,
    Switch,
    Bart,
    Palm,
}

/// Sizes of a tiny checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Tiny {
    pub family: Family,
    pub d_model: usize,
    pub heads: usize,
    pub d_kv: usize,
    pub d_ff: usize,
    pub vocab: usize,
    pub encoder_layers: usize,
    pub decoder_layers: usize,
    /// Experts of a sparse layer; Switch only.
    pub experts: usize,
    /// Most tokens of an expert; Switch only.
    pub capacity: usize,
    /// Whether there is a tokenizer: of bytes, if the vocabulary is large enough for all of
    /// them, else of a few characters.
    pub text: bool,
    /// Whether all routers have equal rows, so that every choice is a tie.
    pub tied_routers: bool,
}

/// A few kilobytes of each family, every optional part in at least one of them.
pub const SMALLEST: [(&str, Tiny); 5] = [
    (
        "t5",
        Tiny {
            family: Family::T5,
            text: true,
            ..LEAST
        },
    ),
    (
        "bytes",
        Tiny {
            family: Family::T5,
            text: true,
            vocab: 259,
            ..LEAST
        },
    ),
    (
        "switch",
        Tiny {
            experts: 2,
            capacity: 2,
            encoder_layers: 2,
            ..LEAST
        },
    ),
    (
        "bart",
        Tiny {
            family: Family::Bart,
            heads: 2,
            d_kv: 2,
            ..LEAST
        },
    ),
    (
        "palm",
        Tiny {
            family: Family::Palm,
            heads: 2,
            d_kv: 2,
            experts: 3,
            capacity: 2,
            ..LEAST
        },
    ),
];

const LEAST: Tiny = Tiny {
    family: Family::Switch,
    d_model: 4,
    heads: 1,
    d_kv: 3,
    d_ff: 5,
    vocab: 9,
    encoder_layers: 1,
    decoder_layers: 1,
    experts: 0,
    capacity: 0,
    text: false,
    tied_routers: false,
};

/// The committed image: every kind of layer that Switch has, and text.
pub const COMMITTED: Tiny = Tiny {
    family: Family::Switch,
    d_model: 16,
    heads: 2,
    d_kv: 6,
    d_ff: 20,
    vocab: 32,
    encoder_layers: 2,
    decoder_layers: 2,
    experts: 3,
    capacity: 4,
    text: true,
    tied_routers: false,
};

/// A part of a folder's name that no other test and no other process has.
pub fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{count}", std::process::id())
}

/// Writes tensors of random values and their table, as a safetensors file has them.
struct Weights {
    state: u64,
    table: Map<String, Value>,
    data: Vec<u8>,
}

impl Weights {
    /// Values within ±`scale` around `center`.
    fn add(&mut self, name: &str, shape: &[usize], center: f32, scale: f32) {
        let start = self.data.len();
        for _ in 0..shape.iter().product() {
            // Knuth's MMIX generator; the high bits are the good ones.
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let unit = (self.state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            self.data
                .extend_from_slice(&(center + unit * scale).to_le_bytes());
        }
        let entry =
            json!({"dtype": "F32", "shape": shape, "data_offsets": [start, self.data.len()]});
        self.table.insert(name.to_owned(), entry);
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) {
        let scale = 1.7 / (cols as f32).sqrt();
        self.add(&format!("{name}.weight"), &[rows, cols], 0.0, scale);
    }

    fn biased(&mut self, name: &str, rows: usize, cols: usize) {
        self.matrix(name, rows, cols);
        self.add(&format!("{name}.bias"), &[rows], 0.0, 0.3);
    }

    fn norm(&mut self, name: &str, width: usize, bias: bool) {
        self.add(&format!("{name}.weight"), &[width], 1.0, 0.2);
        if bias {
            self.add(&format!("{name}.bias"), &[width], 0.0, 0.2);
        }
    }

    fn save(self, path: &Path) {
        let table = serde_json::to_vec(&Value::Object(self.table)).unwrap();
        let mut file = (table.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(&table);
        file.extend_from_slice(&self.data);
        std::fs::write(path, file).unwrap();
    }
}

impl Tiny {
    /// Writes the checkpoint into `folder`, which is made if it is not there.
    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        let mut weights = Weights {
            state: 20_260_101,
            table: Map::new(),
            data: Vec::new(),
        };
        let config = match self.family {
            Family::Bart => self.bart(&mut weights),
            Family::Palm => self.palm(&mut weights),
            Family::T5 | Family::Switch => self.t5(&mut weights),
        };
        let config = serde_json::to_string_pretty(&config).unwrap();
        std::fs::write(folder.join("config.json"), config).unwrap();
        weights.save(&folder.join("model.safetensors"));
        let tokenizer = folder.join("tokenizer_config.json");
        if self.text && self.vocab >= 259 {
            std::fs::write(tokenizer, r#"{"tokenizer_class": "ByT5Tokenizer"}"#).unwrap();
        } else {
            let _ = std::fs::remove_file(tokenizer);
        }
    }

    fn t5(&self, w: &mut Weights) -> Value {
        let (d, ff, inner) = (self.d_model, self.d_ff, self.heads * self.d_kv);
        let sparse = self.family == Family::Switch;
        let feed_forward = if sparse { "mlp" } else { "DenseReluDense" };
        w.add("shared.weight", &[self.vocab, d], 0.0, 1.0);
        for (stack, layers) in [
            ("encoder", self.encoder_layers),
            ("decoder", self.decoder_layers),
        ] {
            for layer in 0..layers {
                let block = format!("{stack}.block.{layer}.layer");
                let mut sublayers = vec!["SelfAttention"];
                if stack == "decoder" {
                    sublayers.push("EncDecAttention");
                }
                for (index, kind) in sublayers.iter().enumerate() {
                    for part in ["q", "k", "v"] {
                        w.matrix(&format!("{block}.{index}.{kind}.{part}"), inner, d);
                    }
                    w.matrix(&format!("{block}.{index}.{kind}.o"), d, inner);
                    w.norm(&format!("{block}.{index}.layer_norm"), d, false);
                }
                if layer == 0 {
                    let name = format!("{block}.0.SelfAttention.relative_attention_bias.weight");
                    w.add(&name, &[4, self.heads], 0.0, 0.5);
                }
                let last = format!("{block}.{}", sublayers.len());
                w.norm(&format!("{last}.layer_norm"), d, false);
                let block = format!("{last}.{feed_forward}");
                if sparse && (layers == 1 || layer % 2 == 1) {
                    self.mixture(w, &block);
                } else {
                    w.matrix(&format!("{block}.wi"), ff, d);
                    w.matrix(&format!("{block}.wo"), d, ff);
                }
            }
            w.norm(&format!("{stack}.final_layer_norm"), d, false);
        }
        let class = if sparse { "SwitchTransformers" } else { "T5" };
        let mut config = json!({
            "architectures": [format!("{class}ForConditionalGeneration")],
            "model_type": if sparse { "switch_transformers" } else { "t5" },
            "d_model": d, "d_kv": self.d_kv, "d_ff": ff, "num_heads": self.heads,
            "num_layers": self.encoder_layers, "num_decoder_layers": self.decoder_layers,
            "vocab_size": self.vocab, "relative_attention_num_buckets": 4,
            "relative_attention_max_distance": 8, "layer_norm_epsilon": 1e-6,
            "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
        });
        let fields = config.as_object_mut().unwrap();
        if sparse {
            fields.insert("num_experts".to_owned(), self.experts.into());
            fields.insert("expert_capacity".to_owned(), self.capacity.into());
            for (stack, layers) in [
                ("encoder", self.encoder_layers),
                ("decoder", self.decoder_layers),
            ] {
                let step = self.sparse_step(layers);
                fields.insert(format!("{stack}_sparse_step"), step.into());
            }
        } else {
            fields.insert("feed_forward_proj".to_owned(), "relu".into());
        }
        if self.text && self.vocab < 259 {
            fields.insert("grapheme_chars".to_owned(), "____abcdä".into());
            fields.insert("phoneme_chars".to_owned(), "____AB€".into());
        }
        config
    }

    /// One layer is sparse in a stack of one, every second in a deeper one.
    fn sparse_step(&self, layers: usize) -> usize {
        if layers == 1 { 1 } else { 2 }
    }

    fn mixture(&self, w: &mut Weights, block: &str) {
        let router = format!("{block}.router.classifier.weight");
        let spread = if self.tied_routers { 0.0 } else { 0.8 };
        w.add(&router, &[self.experts, self.d_model], 0.1, spread);
        for expert in 0..self.experts {
            let name = format!("{block}.experts.expert_{expert}");
            w.matrix(&format!("{name}.wi"), self.d_ff, self.d_model);
            w.matrix(&format!("{name}.wo"), self.d_model, self.d_ff);
        }
    }

    /// Two experts a token in every layer; between the stacks one of two experts that are whole
    /// layers.
    fn palm(&self, w: &mut Weights) -> Value {
        const POSITIONS: usize = 6;
        let (d, inner) = (self.d_model, self.heads * self.d_kv);
        w.add("shared.weight", &[self.vocab, d], 0.0, 1.0);
        let attention = |w: &mut Weights, name: &str| {
            for (part, rows) in [("q", inner), ("k", self.d_kv), ("v", self.d_kv)] {
                w.matrix(&format!("{name}.{part}_proj"), rows, d);
            }
            w.matrix(&format!("{name}.o_proj"), d, inner);
        };
        let gated = |w: &mut Weights, name: &str| {
            w.matrix(&format!("{name}.gate_proj"), self.d_ff, d);
            w.matrix(&format!("{name}.up_proj"), self.d_ff, d);
            w.matrix(&format!("{name}.down_proj"), d, self.d_ff);
        };
        for (stack, layers) in [
            ("encoder", self.encoder_layers),
            ("decoder", self.decoder_layers),
        ] {
            for layer in 0..layers {
                let layer = format!("{stack}.layers.{layer}");
                attention(w, &format!("{layer}.self_attn"));
                if stack == "decoder" {
                    attention(w, &format!("{layer}.cross_attn"));
                    w.norm(&format!("{layer}.self_norm"), d, false);
                }
                w.norm(&format!("{layer}.norm"), d, false);
                w.matrix(&format!("{layer}.moe.router"), self.experts, d);
                for expert in 0..self.experts {
                    gated(w, &format!("{layer}.moe.experts.{expert}"));
                }
            }
            w.norm(&format!("{stack}.final_norm"), d, false);
        }
        w.norm("mixture.norm", d, false);
        w.matrix("mixture.router", 2, d);
        for expert in 0..2 {
            let name = format!("mixture.experts.{expert}");
            attention(w, &format!("{name}.self_attn"));
            gated(w, &format!("{name}.mlp"));
        }
        let all = |layers: usize| (0..layers).collect::<Vec<_>>();
        json!({
            "architectures": ["PalmMoeForConditionalGeneration"], "model_type": "palm_moe",
            "d_model": d, "vocab_size": self.vocab, "num_heads": self.heads, "num_kv_heads": 1,
            "head_dim": self.d_kv, "num_encoder_layers": self.encoder_layers,
            "num_decoder_layers": self.decoder_layers, "d_ff": self.d_ff,
            "num_experts": self.experts, "num_experts_per_tok": 2, "expert_d_ff": self.d_ff,
            "encoder_sparse_layers": all(self.encoder_layers),
            "decoder_sparse_layers": all(self.decoder_layers),
            "expert_capacity": self.capacity,
            "mixture": {
                "num_experts": 2, "num_experts_per_tok": 1, "kind": "layer", "d_ff": self.d_ff,
            },
            "rope_theta": 10000.0, "max_positions": POSITIONS, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": true, "pad_token_id": 0, "eos_token_id": 1,
            "decoder_start_token_id": 0,
        })
    }

    fn bart(&self, w: &mut Weights) -> Value {
        const POSITIONS: usize = 6;
        let (d, ff) = (self.d_model, self.d_ff);
        w.add("model.shared.weight", &[self.vocab, d], 0.0, 1.0);
        w.add("final_logits_bias", &[1, self.vocab], 0.0, 0.5);
        for (stack, layers) in [
            ("encoder", self.encoder_layers),
            ("decoder", self.decoder_layers),
        ] {
            let stack = format!("model.{stack}");
            w.matrix(&format!("{stack}.embed_positions"), POSITIONS + 2, d);
            w.norm(&format!("{stack}.layernorm_embedding"), d, true);
            for layer in 0..layers {
                let layer = format!("{stack}.layers.{layer}");
                let mut kinds = vec!["self_attn"];
                if stack.ends_with("decoder") {
                    kinds.push("encoder_attn");
                }
                for kind in kinds {
                    for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                        w.biased(&format!("{layer}.{kind}.{part}"), d, d);
                    }
                    w.norm(&format!("{layer}.{kind}_layer_norm"), d, true);
                }
                w.biased(&format!("{layer}.fc1"), ff, d);
                w.biased(&format!("{layer}.fc2"), d, ff);
                w.norm(&format!("{layer}.final_layer_norm"), d, true);
            }
        }
        json!({
            "architectures": ["BartForConditionalGeneration"], "model_type": "bart",
            "activation_function": "gelu", "d_model": d, "vocab_size": self.vocab,
            "encoder_layers": self.encoder_layers, "decoder_layers": self.decoder_layers,
            "encoder_attention_heads": self.heads, "decoder_attention_heads": self.heads,
            "encoder_ffn_dim": ff, "decoder_ffn_dim": ff, "scale_embedding": true,
            "max_position_embeddings": POSITIONS, "decoder_start_token_id": 2,
            "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "forced_eos_token_id": 2,
        })
    }
}
