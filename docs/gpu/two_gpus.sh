#!/usr/bin/env bash
# What only two GPUs can show, in ten minutes: prints one line a check, PASS or FAIL.
#
#     bash docs/gpu/two_gpus.sh data/cifar10 /tmp/two-gpus
#     bash docs/gpu/two_gpus.sh data/cifar10 /tmp/two-gpus cpu
#
# DATA is CIFAR-10 as an image folder, OUT a folder that is not there yet. The second line is a
# rehearsal with two processes on the CPU, which sees 64 images a class; what it cannot show is named
# by SKIP. No GPU has run it yet. PYTHON names another interpreter.
set -uo pipefail
[ $# -ge 2 ] || { sed -n '2,9s/^# \?//p' "$0"; exit 2; }
data=${1%/} out=$2 device=${3:-cuda}
python=${PYTHON:-python}
here=$(dirname "$0")
irbin=("$python" -m irbin)
two=("$python" -m torch.distributed.run --standalone --nproc-per-node 2 -m irbin)
knobs=(--seed 1 --no-distill --warmup-epochs 0 --epochs 1 --device "$device")
n_failed=0
mkdir -p "$(dirname "$out")" && mkdir "$out" || exit 2
few() { # few FROM TO N: the first N images of each class
    local class
    for class in "$1"/*/*/; do
        mkdir -p "$2/${class#"$1"/}"
        find "$class" -maxdepth 1 -type f | sort | head -n "$3" | xargs -I{} cp {} "$2/${class#"$1"/}"
    done
}
few "$data" "$out/few" 64
patience=1 # times the limits below, which are a GPU's
[ "$device" = cpu ] && data=$out/few patience=6

check() { # check RC WHAT
    if [ "$1" = 0 ]; then echo "PASS $2"; else echo "FAIL $2"; n_failed=$((n_failed + 1)); fi
}
loss() { tail -1 "$out/$1/summary.csv" | cut -d, -f2; }
near() { # near A B MOST: whether the losses of two runs lie that near
    "$python" -c "raise SystemExit(not abs($(loss "$1") - $(loss "$2")) <= $3)"
}
train() { # train NAME SECONDS SOURCE KNOBS…: in two processes
    local name=$1 seconds=$2 source=$3
    shift 3
    timeout $((patience * seconds)) "${two[@]}" finetune "$source" -o "$out/$name" --data-dir "$data" "${knobs[@]}" "$@" > "$out/$name.log" 2>&1
}

"${irbin[@]}" convert paper:resnet20 --shortcut bireal -o "$out/conv" > "$out/conv.log" 2>&1
check $? "converted"

# the same images a step: a float network agrees to rounding, a binary one to what rounding makes of signs
for kind in float binary; do
    source=$out/conv most=0.15 amp=()
    [ $kind = float ] && source=paper:resnet20 most=0.1 amp=(--amp off)
    "${irbin[@]}" finetune "$source" -o "$out/$kind-one" --data-dir "$data" "${knobs[@]}" "${amp[@]}" -b 128 --no-compile > "$out/$kind-one.log" 2>&1
    check $? "$kind: one process trains"
    train $kind-two 300 "$source" "${amp[@]}" -b 64 --sync-bn --no-compile
    check $? "$kind: two processes train"
    near $kind-one $kind-two $most
    check $? "$kind: losses $(loss $kind-one) in one, $(loss $kind-two) in two, to lie within $most"
done

train graph 300 "$out/conv" -b 64 --compile
check $? "compiled in two processes"
train accum 300 "$out/conv" -b 32 --grad-accum-steps 2 --compile
check $? "compiled, two batches a step"
! grep -q "torch.compile failed" "$out/graph.log" "$out/accum.log"
check $? "no fall-back"
! grep -qi "strides do not match\|stream does not match" "$out"/*.log
check $? "no warning of DDP or autograd"

# a trained and a packed network: tensors of GPUs and of CPUs in one group
"${irbin[@]}" export "$out/binary-one" -o "$out/packed" > "$out/packed.log" 2>&1
timeout $((patience * 200)) "${two[@]}" eval "$out/binary-one" "$out/packed" --data-dir "$data" --device "$device" > "$out/eval.log" 2>&1
check $? "two networks in one eval"
[ "$(grep -c "^network" "$out/eval.log")" = 1 ]
check $? "one table"

# every process opens its own GPU and no other, also where a recipe converts before it trains, and
# where one process is told of the second GPU
each() { # each NAME WORDS…: in two processes; prints its lines
    local name=$1
    shift
    timeout $((patience * 300)) "$python" -m torch.distributed.run --standalone --nproc-per-node 2 "$here/each_process.py" "$@" > "$out/$name.log" 2>&1
    local rc=$?
    grep -E "^(PASS|FAIL|SKIP) " "$out/$name.log" || { echo "FAIL $name: $(tail -1 "$out/$name.log")"; rc=1; }
    [ $rc = 0 ] || n_failed=$((n_failed + 1))
}
fast=(finetune paper:resnet20 -c paper-resnet20-cifar10 --data-dir "$out/few" --no-distill --epochs 1 --warmup-epochs 0 -b 64 --no-compile)
each contexts contexts "$device" -- "${fast[@]}" -o "$out/own"
if [ "$device" = cpu ]; then
    echo "SKIP which GPUs are opened by a process that is told of the second one"
else
    "$python" "$here/each_process.py" contexts cuda:1 -- "${fast[@]}" -o "$out/second" > "$out/second.log" 2>&1
    check $? "told of the second GPU: $(grep -E "^(PASS|FAIL) " "$out/second.log")"
fi

# whether gradients travel while others are still computed
each overlap overlap "$device"

# a process fails in the middle of an epoch: all must be gone within 60 s, with the reason
cp -r "$out/few" "$out/bad"
for file in "$(find "$out/bad/train" -mindepth 1 -maxdepth 1 -type d | sort | tail -1)"/*; do echo x > "$file"; done
begin=$SECONDS
timeout $((patience * 120)) "${two[@]}" finetune "$out/conv" -o "$out/lost" --data-dir "$out/bad" "${knobs[@]}" --cache off -b 16 --no-compile > "$out/lost.log" 2>&1
rc=$? spent=$((SECONDS - begin))
[ $rc != 0 ] && [ $spent -lt $((patience * 60)) ] && grep -q "can be decoded" "$out/lost.log"
check $? "a damaged image ends both, in $spent s, and is named"

# a process is killed: the other must be gone within 60 s. On the CPU it says so itself, in irbin's
# one line; under NCCL torchrun ends it
"${two[@]}" finetune "$out/conv" -o "$out/kill" --data-dir "$data" "${knobs[@]}" --epochs 1000 -b 64 --no-compile > "$out/kill.log" 2>&1 &
parent=$!
for _ in $(seq 120); do
    [ -d "$out/kill/recent" ] || ! kill -0 $parent 2> /dev/null && break
    sleep 1
done
kill -9 "$(pgrep -P $parent | tail -1)"
begin=$SECONDS
for _ in $(seq 90); do kill -0 $parent 2> /dev/null || break; sleep 1; done
spent=$((SECONDS - begin))
[ $spent -lt 60 ]
check $? "a killed process ends the other, in $spent s"
if kill -0 $parent 2> /dev/null; then kill -9 $parent; fi
lost="irbin: expected all processes of the run to stay, but one ended"
if [ "$device" = cpu ]; then
    [ "$(grep -c "$lost" "$out/kill.log")" = 1 ]
    check $? "and says that one ended, in one line"
else
    echo "SKIP what the other says: $(grep -c "$lost" "$out/kill.log") lines of irbin's; the rest is in $out/kill.log"
fi
[ -f "$out/kill/last/training.json" ]
check $? "what was saved is there"
exit $((n_failed > 0))
