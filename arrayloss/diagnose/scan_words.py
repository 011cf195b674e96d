"""Words in the names of losses, and the loss of this package that each means: what `scan` knows."""

from __future__ import annotations

import re


def _words(text: str) -> set[str]:
    return set(text.split())


# The first line whose words are all in a name decides; words of up to three letters stand alone, longer ones may be parts of others.
MEANINGS = """
focal tversky: focal_tversky_loss
dc focal: dice_loss + softmax_focal_loss
dc bce: dice_loss + sigmoid_cross_entropy
dc ce: dice_loss + softmax_cross_entropy
dice focal: dice_loss + sigmoid_focal_loss
dice ce: dice_loss + softmax_cross_entropy
dice crossentropy: dice_loss + softmax_cross_entropy
dice bce: dice_loss + sigmoid_cross_entropy
wasserstein:
cldice:
lovasz:
largemargin:
amsoftmax:
hausdorff:
boundary:
ssim:
psnr:
totalvariation:
perceptual:
lpips:
adversarial:
mutualinformation:
giou:
diou:
ciou:
quantile:
pinball:
dice generalized: generalized_dice_loss
gdice: generalized_dice_loss
gdl: generalized_dice_loss
tversky: tversky_loss
dice: dice_loss
jaccard: jaccard_loss
softiou: jaccard_loss
iou: jaccard_loss
focal softmax: softmax_focal_loss
focal categorical: softmax_focal_loss
focal multiclass: softmax_focal_loss
focal: sigmoid_focal_loss
poly1 loss: poly1_cross_entropy
polyloss: poly1_cross_entropy
poly crossentropy: poly1_cross_entropy
generalized crossentropy: generalized_cross_entropy
gce: generalized_cross_entropy
linear crossentropy: linear_cross_entropy
bce logits: sigmoid_cross_entropy
binary logits crossentropy: sigmoid_cross_entropy
sigmoid crossentropy: sigmoid_cross_entropy
binarylogistic: sigmoid_cross_entropy
binary crossentropy: binary_cross_entropy
bce: binary_cross_entropy
exp log loss:
log loss: binary_cross_entropy
ntxent: ntxent_loss
infonce: ntxent_loss
simclr: ntxent_loss
contrastive: ntxent_loss
rankingsoftmax: ranking_softmax_loss
listnet: ranking_softmax_loss
crossentropy: softmax_cross_entropy
xent: softmax_cross_entropy
labelsmooth: softmax_cross_entropy
multiclasslogistic: softmax_cross_entropy
ce: softmax_cross_entropy
gaussian nll: gaussian_nll_loss
poisson: poisson_nll_loss
gamma nll: gamma_nll_loss
nll: nll_loss
kldiv: kl_divergence
kullback: kl_divergence
kl: kl_divergence
distill: kl_divergence
pseudohuber: pseudo_huber_loss
smoothl1: smooth_l1_loss
huber: huber_loss
logcosh: log_cosh_loss
charbonnier: charbonnier_loss
cauchy: cauchy_loss
lorentz: cauchy_loss
welsch: welsch_loss
leclerc: welsch_loss
geman: geman_mcclure_loss
wingloss: wing_loss
multilabelsoftmargin: multilabel_soft_margin_loss
softmargin: soft_margin_loss
multilabelmargin: multilabel_margin_loss
multimargin: multi_margin_loss
marginranking: margin_ranking_loss
hinge embedding: hinge_embedding_loss
hinge squared: squared_hinge_loss
hinge smooth: smooth_hinge_loss
hinge multiclass: multiclass_hinge_loss
hinge categorical: multiclass_hinge_loss
hinge: hinge_loss
perceptron multiclass: multiclass_perceptron_loss
perceptron: perceptron_loss
exponentialloss: exponential_loss
triplet distance: triplet_margin_with_distance_loss
triplet: triplet_margin_loss
circleloss: circle_loss
cosine embedding: cosine_embedding_loss
cosine distance: cosine_distance
cosine: cosine_distance
ctc: ctc_loss
sparsemax: sparsemax_loss
epsiloninsensitive: epsilon_insensitive_loss
msle: squared_log_error
squaredlog: squared_log_error
mape: absolute_percentage_error
percentageerror: absolute_percentage_error
mse: squared_error
rmse: squared_error
l2: squared_error
squarederror: squared_error
squaredloss: squared_error
mae: absolute_error
l1: absolute_error
absoluteerror: absolute_error
"""
RULES = [(tuple(words.split()), loss.strip()) for words, _, loss in (line.partition(":") for line in MEANINGS.strip().splitlines())]
# Without "loss" beside them these are measures, tools or layers as often as losses.
VAGUE = _words(
    """
    absoluteerror adversarial boundary cauchy ce contrastive cosine ctc dice distill focal hausdorff iou jaccard kl l1 l2
    labelsmooth linear lorentz mae mape mse mutualinformation perceptron perceptual poisson psnr quantile rmse sparsemax
    squarederror ssim totalvariation triplet tversky wasserstein
    """
)
LOSS_WORDS = {"loss", "losses", "criterion", "criterions", "objective", "penalty"}
OTHER_WORDS = _words(
    """
    accuracy apply backward base buffer build cache callback check clip coef coeff coefficient collect config create curve
    dataset dict difference dloss distance distances download eligible epoch eval evaluate factory fetch find fit for format get grad
    gradient guess history init inputs kernel keys lambda layer list load logger logging main make mask meta meter metric
    metrics mixin names normalize parse plot prepare print process profit rate read record reduce register report reset run
    sample save scaler schedule scheduler score scores select set setup show similarity step summary switch test tests tracker
    train trainer type update validate validation values wandb weight weights wrapper write
    """
)
NEUTRAL = _words(
    """
    a batch binary calc calculate compute cpu custom d fn forward func function gpu jax keras logits masked mean my naive np
    numpy of per pixel plain pytorch reference safe sample simple single stable tf the torch total unreduced v1 v2 weighted with
    """
)
PREDICTIONS = _words(
    """
    anchor embeddings estimate estimates idepth image img1 inp input inputs log_input log_predictions log_prob log_probs logit
    logits mean mu out output outputs p pred predict predicted prediction predictions preds prob proba probabilities probs recon
    reconstruction score scores student student_logits x y_hat y_pred yhat ypred
    """
)
TARGETS = _words(
    """
    actual expected gold ground_truth gt image img2 label labels labels_onehot log_targets mask masks observed one_hot onehot
    original positive q reference t target targets teacher teacher_logits true truth y y_real y_true ytrue
    """
)
OF_LIBRARIES = {  # what is called there, and which of its names are losses
    "torch.nn.functional": r"\w*(_loss|cross_entropy\w*|kl_div)$",
    "torch.nn": r"\w+Loss$",
    "optax.losses": r"(?!make_)\w*(loss\w*|entropy\w*|log_cosh|squared_error|cosine_distance|kl_divergence\w*|ntxent)$",
    "optax": r"(?!make_)\w*(loss\w*|entropy\w*|log_cosh|squared_error|cosine_distance|kl_divergence\w*|ntxent)$",
    "keras.losses": r"(?!(get|serialize|deserialize|Loss|Reduction)$)\w+$",
    "tensorflow.nn": r"\w*(cross_entropy\w*|l2_loss|ctc_loss|log_poisson_loss)$",
    "torchvision.ops": r"\w*(focal_loss|iou_loss)$",
    "monai.losses": r"\w*(Loss|loss)$",
    "kornia.losses": r"\w*(Loss|loss|WithLogits|with_logits)$",
    "segmentation_models_pytorch.losses": r"\w*(Loss|loss\w*)$",
    "sklearn.metrics": r"(log_loss|hinge_loss|mean_(squared|absolute)\w*_error|mean_(gamma|poisson)_deviance)$",
}


def words_of(name: str) -> list[str]:
    """The words of a name in small letters: BCEWithLogitsLoss is bce, with, logits, loss."""
    name = re.sub(r"([Ll]oss|LOSS)[123][dD]", r"\1", name.replace("IoU", "Iou").replace("Crossentropy", "CrossEntropy"))
    name = re.sub(r"V(\d+)", r"_v\1", name)
    return [w for w in re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().split("_") if w]


def meaning(name: str) -> tuple[str, str] | None:
    """The words that a name says and the loss of this package that they mean, which is empty where there is none; or None."""
    words = words_of(name)
    joined = "".join(words).replace("indices", "")
    for needed, loss in RULES:
        if all(w in words if len(w) <= 3 else w in joined for w in needed):
            return " ".join(needed), loss
    return None


def library_loss(dotted: str) -> str | None:
    """The library that a dotted name is a loss of, or None."""
    module, _, name = dotted.rpartition(".")
    for library, pattern in OF_LIBRARIES.items():
        if (module == library or module.startswith(library + ".")) and re.match(pattern, name):
            return library
    return None
