"""The two commands that made the files beside this one.

`python -m lib.training mnist FOLDER` compresses the four published files of MNIST that lie in FOLDER;
`python -m lib.training classifier` trains the digit classifier.
"""

import argparse
import hashlib
from pathlib import Path

from lib.training import classifier, data, metrics
from lib.training.checkpoint import write


def main(arguments: list[str] | None = None) -> None:
    """Runs the command that the command line names."""
    parser = argparse.ArgumentParser("python -m lib.training", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    mnist = commands.add_parser("mnist", help="compress the published files of MNIST into the package")
    mnist.add_argument("folder", type=Path, help=f"holds {', '.join(data.MD5)}")
    train = commands.add_parser("classifier", help="train the digit classifier and store its weights")
    train.add_argument("--images", type=int, default=360_000, help="images to see (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.command == "mnist":
        for file in data.build(options.folder):
            print(f"{file.stat().st_size:>10,} bytes  {file}")
    else:
        make_classifier(options.images, options.seed)


def make_classifier(images: int, seed: int, path: Path = classifier.WEIGHTS) -> None:
    """Trains the classifier and writes its weights to `path`, unless it is less accurate than it must be."""
    model, accuracy = classifier.train(images, seed)
    if accuracy < classifier.LEAST_ACCURACY:
        raise SystemExit(f"accuracy {accuracy:.2%} is below {classifier.LEAST_ACCURACY:.2%}; nothing written")
    tensors = {**model.state_dict(), **metrics.sums_over_test_images(model.features)}
    write(path, tensors, {"test accuracy": f"{accuracy:.4f}"})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"test accuracy {accuracy:.2%}, weights in {path}")
    print(f'lib/training/classifier.py must say SHA256 = "{digest}"')


if __name__ == "__main__":
    main()
