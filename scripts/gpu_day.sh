#!/usr/bin/env bash
# Everything that only a CUDA device can show: numbers and speed in float32, TF32 and bfloat16, compilation, training.
# usage: scripts/gpu_day.sh [--device cuda|cpu] [--tiny] [--out DIR]
# A step that is done leaves DIR/done/NAME and is not run again; records are appended in DIR/records.
set -u
device=cuda tiny=0 out=gpu_day
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2; shift 2 ;;
    --tiny) tiny=1; shift ;;
    --out) out=$2; shift 2 ;;
    *) echo "gpu_day: no option $1 (--device, --tiny, --out)" >&2; exit 2 ;;
  esac
done
mkdir -p "$out/done" "$out/records" "$out/logs"
if [ $tiny = 1 ]; then steps=2 images=4 batch=2; else steps=400 images=210 batch=64; fi
accelerator=$([ "$device" = cpu ] && echo cpu || echo gpu)
failed=0

step() {  # NAME COMMAND...: run once, keep what it printed
  local name=$1; shift
  [ -e "$out/done/$name" ] && { echo "done already: $name"; return; }
  local start=$SECONDS
  if "$@" > "$out/logs/$name.txt" 2>&1; then
    touch "$out/done/$name"; echo "ok $name ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1)); echo "FAILED $name ($((SECONDS - start)) s), see $out/logs/$name.txt"
  fi
}

models="vdvae efficient-vdvae latent-vae pixelsnail vdm vqvae2"
[ $tiny = 1 ] && models="vdvae vqvae2"

for model in $models; do  # the same number as on a processor
  step "test-$model" zoo test "$model-photos-8bit" --data.limit "$images" --trainer.accelerator "$accelerator" \
    --records "$out/records/float32"
done
for model in $models; do  # training in every precision, compiled and not
  config=demo/${model//-/_}_photos_8bit
  [ "$model" = latent-vae ] && continue  # two stages; its hierarchy is like the others'
  [ "$model" = vqvae2 ] && continue
  common=(--config "$config" --trainer.accelerator "$accelerator" --trainer.max_steps "$steps" --trainer.max_time null
          --trainer.limit_val_batches 0 --data.batch_size "$batch" --model.grid_every 0)
  step "fit-$model-float32" zoo fit "${common[@]}" --model.tf32 false --run_dir "$out/runs/$model-float32"
  step "fit-$model-tf32" zoo fit "${common[@]}" --run_dir "$out/runs/$model-tf32"
  step "fit-$model-bf16" zoo fit "${common[@]}" --trainer.precision bf16-mixed --run_dir "$out/runs/$model-bf16"
  mode=$([ "$device" = cpu ] && echo default || echo reduce-overhead)
  [ $tiny = 1 ] || step "fit-$model-compiled" zoo fit "${common[@]}" --model.compile true --model.compile_mode "$mode" \
    --run_dir "$out/runs/$model-compiled"
  for kind in float32 tf32 bf16; do  # curves that lie over each other end in equal prices
    step "price-$model-$kind" zoo test "$out/runs/$model-$kind" --data.limit "$images" \
      --trainer.accelerator "$accelerator" --records "$out/records/trained"
  done
done
step sample zoo sample vdvae-photos-8bit --n 4 --device "$device" --output "$out/samples.png"
[ $tiny = 1 ] || step compute zoo bench --table compute
echo "records in $out/records, speed (train/images_per_second) in $out/runs; $failed step(s) failed"
exit $((failed > 0))
