//! Small checkpoints made up on the spot, one for each family, to be looked at or broken.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Folder, Result};

/// Names and shapes of tensors.
pub type Tensors = Vec<(String, Vec<usize>)>;

/// Values that scatter over (-0.5, 0.5), the same on every run.
fn scatter(seed: usize, index: usize) -> f32 {
    let bits = (index + 1 + seed * 7919).wrapping_mul(0x9E37_79B9) as u32;
    (f64::from(bits ^ (bits >> 15)) / f64::from(u32::MAX) - 0.5) as f32
}

/// A folder with this configuration and these tensors. A name that ends in `.table` has bytes
/// below 4, gains of norms are near 1, all else is scattered.
pub fn folder(config: &Value, tensors: &Tensors) -> Result<Folder> {
    let folder: TempDir = tempfile::tempdir()?;
    std::fs::write(folder.path().join("config.json"), config.to_string())?;
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (seed, (name, shape)) in tensors.iter().enumerate() {
        let len: usize = shape.iter().product();
        let start = data.len();
        let dtype = if name.ends_with(".table") {
            data.extend((0..len).map(|index| (index % 4) as u8));
            "U8"
        } else {
            let base = if name.contains("norm") && name.ends_with("weight") {
                1.0
            } else {
                0.0
            };
            let value = |index| base + scatter(seed, index);
            data.extend((0..len).flat_map(|index| value(index).to_le_bytes()));
            "F32"
        };
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    std::fs::write(folder.path().join("model.safetensors"), out)?;
    Ok(Folder::from(folder))
}

struct List(Tensors);

impl List {
    fn put(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push((name.into(), shape.to_vec()));
    }

    fn linear(&mut self, name: &str, rows: usize, cols: usize, bias: bool) {
        self.put(format!("{name}.weight"), &[rows, cols]);
        if bias {
            self.put(format!("{name}.bias"), &[rows]);
        }
    }

    fn norm(&mut self, name: &str, width: usize, bias: bool) {
        self.put(format!("{name}.weight"), &[width]);
        if bias {
            self.put(format!("{name}.bias"), &[width]);
        }
    }
}

/// Width of all models here; 4 heads of 8.
const D: usize = 32;

/// A `palm_moe` with 4 experts in layer 1 of both stacks, and a mixture block of 3.
pub fn palm(router: &str, block: &str) -> (Value, Tensors) {
    let config = json!({
        "architectures": ["PalmMoeForConditionalGeneration"], "model_type": "palm_moe",
        "vocab_size": 40, "d_model": D, "num_heads": 4, "num_kv_heads": 1, "head_dim": 8,
        "num_encoder_layers": 2, "num_decoder_layers": 2, "d_ff": 48,
        "num_experts": 4, "num_experts_per_tok": 2, "expert_d_ff": 36,
        "encoder_sparse_layers": [1], "decoder_sparse_layers": [1], "router": router,
        "expert_capacity": 5,
        "expert_activations": ["swiglu", "gelu", "reglu", "relu"],
        "mixture": { "num_experts": 3, "num_experts_per_tok": 2, "kind": block, "d_ff": 24 },
        "rope_theta": 10000.0, "max_positions": 64, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true, "pad_token_id": 0, "eos_token_id": 1,
        "decoder_start_token_id": 2,
    });
    let mut t = List(Vec::new());
    t.linear("shared", 40, D, false);
    let attention = |t: &mut List, name: &str| {
        t.linear(&format!("{name}.q_proj"), 32, D, false);
        t.linear(&format!("{name}.k_proj"), 8, D, false);
        t.linear(&format!("{name}.v_proj"), 8, D, false);
        t.linear(&format!("{name}.o_proj"), D, 32, false);
    };
    let block_of = |t: &mut List, name: &str, d_ff: usize, gated: bool| {
        if gated {
            t.linear(&format!("{name}.gate_proj"), d_ff, D, false);
        }
        t.linear(&format!("{name}.up_proj"), d_ff, D, false);
        t.linear(&format!("{name}.down_proj"), D, d_ff, false);
    };
    for side in ["encoder", "decoder"] {
        for index in 0..2 {
            let name = format!("{side}.layers.{index}");
            t.norm(&format!("{name}.norm"), D, false);
            attention(&mut t, &format!("{name}.self_attn"));
            if side == "decoder" {
                t.norm(&format!("{name}.self_norm"), D, false);
                attention(&mut t, &format!("{name}.cross_attn"));
            }
            if index == 0 {
                block_of(&mut t, &format!("{name}.mlp"), 48, true);
                continue;
            }
            match router {
                "softmax" => t.linear(&format!("{name}.moe.router"), 4, D, false),
                "hash" => t.put(format!("{name}.moe.router.table"), &[40]),
                _ => {}
            }
            for expert in 0..4 {
                let name = format!("{name}.moe.experts.{expert}");
                block_of(&mut t, &name, 36, expert % 2 == 0);
            }
        }
        t.norm(&format!("{side}.final_norm"), D, false);
    }
    t.norm("mixture.norm", D, false);
    t.linear("mixture.router", 3, D, false);
    for expert in 0..3 {
        let name = format!("mixture.experts.{expert}");
        if block == "layer" {
            attention(&mut t, &format!("{name}.self_attn"));
            block_of(&mut t, &format!("{name}.mlp"), 24, true);
        } else {
            block_of(&mut t, &name, 24, true);
        }
    }
    (config, t.0)
}

/// A Mixtral with 2 layers, 4 experts, 2 key heads.
pub fn mixtral() -> (Value, Tensors) {
    let config = json!({
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "vocab_size": 40,
        "hidden_size": D, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
        "sliding_window": null, "num_local_experts": 4, "num_experts_per_tok": 2,
        "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2,
    });
    let mut t = List(Vec::new());
    t.linear("model.embed_tokens", 40, D, false);
    for index in 0..2 {
        let name = format!("model.layers.{index}");
        t.linear(&format!("{name}.self_attn.q_proj"), 32, D, false);
        t.linear(&format!("{name}.self_attn.k_proj"), 16, D, false);
        t.linear(&format!("{name}.self_attn.v_proj"), 16, D, false);
        t.linear(&format!("{name}.self_attn.o_proj"), D, 32, false);
        t.norm(&format!("{name}.input_layernorm"), D, false);
        t.norm(&format!("{name}.post_attention_layernorm"), D, false);
        t.linear(&format!("{name}.block_sparse_moe.gate"), 4, D, false);
        for expert in 0..4 {
            let name = format!("{name}.block_sparse_moe.experts.{expert}");
            t.linear(&format!("{name}.w1"), 48, D, false);
            t.linear(&format!("{name}.w2"), D, 48, false);
            t.linear(&format!("{name}.w3"), 48, D, false);
        }
    }
    t.norm("model.norm", D, false);
    t.linear("lm_head", 40, D, false);
    (config, t.0)
}

/// An M2M-100 (`experts` 0) or an NLLB-MoE whose second layers have so many experts.
pub fn m2m100(experts: usize) -> (Value, Tensors) {
    let moe = experts > 0;
    let mut config = json!({
        "architectures": ["M2M100ForConditionalGeneration"], "model_type": "m2m_100",
        "vocab_size": 40, "d_model": D, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48, "decoder_ffn_dim": 44, "max_position_embeddings": 60,
        "activation_function": "relu", "scale_embedding": true, "is_encoder_decoder": true,
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
    });
    if let (true, Some(fields)) = (moe, config.as_object_mut()) {
        for (field, value) in [
            ("architectures", json!(["NllbMoeForConditionalGeneration"])),
            ("model_type", json!("nllb-moe")),
            ("num_experts", json!(experts)),
            ("expert_capacity", json!(7)),
            ("encoder_sparse_step", json!(2)),
            ("decoder_sparse_step", json!(2)),
            ("moe_eval_capacity_token_fraction", json!(0.5)),
            ("moe_token_dropout", json!(0.2)),
            ("second_expert_policy", json!("all")),
        ] {
            fields.insert(field.to_owned(), value);
        }
    }
    let [cross, cross_norm, ff_norm] = match moe {
        false => [
            "encoder_attn",
            "encoder_attn_layer_norm",
            "final_layer_norm",
        ],
        true => [
            "cross_attention",
            "cross_attention_layer_norm",
            "ff_layer_norm",
        ],
    };
    let mut t = List(Vec::new());
    t.linear("model.shared", 40, D, false);
    for (side, d_ff) in [("encoder", 48), ("decoder", 44)] {
        for index in 0..2 {
            let name = format!("model.{side}.layers.{index}");
            let mut attention = |kind: &str, norm: &str| {
                for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                    t.linear(&format!("{name}.{kind}.{part}"), D, D, true);
                }
                t.norm(&format!("{name}.{norm}"), D, true);
            };
            attention("self_attn", "self_attn_layer_norm");
            if side == "decoder" {
                attention(cross, cross_norm);
            }
            t.norm(&format!("{name}.{ff_norm}"), D, true);
            let mut block = |name: &str| {
                t.linear(&format!("{name}.fc1"), d_ff, D, true);
                t.linear(&format!("{name}.fc2"), D, d_ff, true);
            };
            match (moe, index) {
                (false, _) => block(&name),
                (true, 0) => block(&format!("{name}.ffn")),
                (true, _) => {
                    for expert in 0..experts {
                        block(&format!("{name}.ffn.experts.expert_{expert}"));
                    }
                    t.linear(&format!("{name}.ffn.router.classifier"), experts, D, false);
                }
            }
        }
        t.norm(&format!("model.{side}.layer_norm"), D, true);
    }
    (config, t.0)
}
