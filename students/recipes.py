"""Recipes of students by name.

Sources: ASCDomain (hubtru/ASCDomain and its technical report) for architecture, schedule,
temperature and weights of the losses; CPJKU/dcase2024_task1_baseline and the BCBL students of NTU;
cpjku_dcase23 for CP-Mobile; DSMN_dcase2023; arXiv:2309.08200 and easy_dcase_task1 for TF-SepNet;
arXiv:2509.09931 and its program for CNN-GRU. What differs from them is marked OURS.
"""

from dataclasses import replace

from audio.front_ends import ASCDOMAIN_CNN
from audio.views import ASCDOMAIN, Augmentation
from students.catalogue import ARCHITECTURES
from students.recipe import Challenge, Distillation, Mixup, StudentRecipe
from training import RampHoldLinear, TrainingRecipe, WarmupCosine


def isotropic_ascdomain() -> StudentRecipe:
    """Isotropic as published: the soft labels' loss averaged over batch and classes."""
    return StudentRecipe(
        name="isotropic_ascdomain",
        model="isotropic",
        front_end=ASCDOMAIN_CNN,
        augmentation=ASCDOMAIN,
        training=TrainingRecipe(
            max_epochs=150, batch_size=256, peak_learning_rate=5e-3, weight_decay=1e-4
        ),
        distillation=Distillation(reduction="element_mean"),
        device_loss_weight=0.025,
    )


def isotropic() -> StudentRecipe:
    """Isotropic as we train it: the soft labels' loss averaged over the batch."""
    return replace(isotropic_ascdomain(), name="isotropic", distillation=Distillation())


def demo_isotropic() -> StudentRecipe:
    """The full-size student for a few hundred clips: small batches, a short warm-up."""
    base = isotropic()
    training = replace(
        base.training,
        max_epochs=28,
        batch_size=16,
        schedule=WarmupCosine(warmup_steps=30),
        clips_per_epoch=128,
    )
    return replace(base, name="demo_isotropic", training=training)


def tiny_isotropic() -> StudentRecipe:
    """A student of 27,722 parameters on a coarse spectrogram, for a hundred clips with labels (OURS).

    Chosen among six for what a pool gives it in 20 seconds, on clips that neither teach nor test.
    """
    base = demo_isotropic()
    return replace(
        base,
        name="tiny_isotropic",
        arguments={"filters": 64, "depth": 5, "patch": 5},
        front_end=replace(
            base.front_end, n_fft=1024, window_samples=1024, hop_samples=640, mel_bands=64
        ),
        augmentation=replace(base.augmentation, max_masked_bands=12),
        training=replace(base.training, max_epochs=40, clips_per_epoch=256),
    )


def small_isotropic() -> StudentRecipe:
    """The full-size student for about a thousand clips: all clips in every epoch, a warm-up that ends."""
    base = isotropic()
    training = replace(
        base.training, max_epochs=24, batch_size=32, schedule=WarmupCosine(warmup_steps=60)
    )
    return replace(base, name="small_isotropic", training=training)


def ascdomain_student(model: str) -> StudentRecipe:
    """Another student of the ASCDomain report, trained as `isotropic` is."""
    return replace(isotropic(), name=model, model=model)


def isotropic_rsc() -> StudentRecipe:
    """Isotropic without teachers, with representation self-challenging, as published."""
    return replace(
        isotropic_ascdomain(),
        name="isotropic_rsc",
        distillation=None,
        device_loss_weight=0.0,
        challenge=Challenge(),
    )


def isotropic_adversarial() -> StudentRecipe:
    """Isotropic without teachers and impulse responses, against the discriminator, as published."""
    return replace(
        isotropic_ascdomain(),
        name="isotropic_adversarial",
        augmentation=replace(ASCDOMAIN, impulse_response_probability=0.0),
        distillation=None,
        device_loss_weight=1.0,
    )


def dcase24_baseline() -> StudentRecipe:
    """The baseline of DCASE 2024 task 1, as published: without teachers and impulse responses."""
    return replace(
        isotropic_ascdomain(),
        name="dcase24_baseline",
        model="dcase24_baseline",
        augmentation=replace(ASCDOMAIN, impulse_response_probability=0.0),
        distillation=None,
        device_loss_weight=0.0,
    )


def bcbl(base_channels: int) -> StudentRecipe:
    """The baseline's network of any width as NTU trains it: no rolls, a short warm-up.

    OURS: the soft labels' loss averaged over the batch, and the last epoch's weights, where NTU
    keeps the best weights on the test clips.
    """
    base = isotropic()
    return replace(
        base,
        name=f"bcbl{base_channels}",
        model="dcase24_baseline",
        arguments={"base_channels": base_channels},
        augmentation=replace(ASCDOMAIN, max_roll_samples=0),
        training=replace(base.training, schedule=WarmupCosine(warmup_steps=100)),
        device_loss_weight=0.0,
    )


def bcbl24_44k() -> StudentRecipe:
    """NTU's entry to DCASE 2024: 24 base channels, clips as they were recorded."""
    model = "bcbl24_44k"
    front_end = ARCHITECTURES[model].front_end
    return replace(bcbl(24), name=model, model=model, arguments={}, front_end=front_end)


def cp_mobile_2023() -> StudentRecipe:
    """CP-Mobile of CP-JKU's DCASE 2023 entry, as published except for int8.

    OURS: bands are masked before the logarithm, and the filterbank is always the same.
    """
    return StudentRecipe(
        name="cp_mobile_2023",
        model="cp_mobile_2023",
        front_end=ARCHITECTURES["cp_mobile_2023"].front_end,
        augmentation=replace(ASCDOMAIN, max_roll_samples=4000),
        training=TrainingRecipe(
            max_epochs=150,
            batch_size=256,
            peak_learning_rate=9e-4,
            weight_decay=1e-4,
            optimizer="adam",
            schedule=RampHoldLinear(
                ramp_epochs=14, hold_until_epoch=50, line_epochs=84, last_factor=0.005
            ),
        ),
        distillation=Distillation(reduction="element_mean"),
        device_loss_weight=0.0,
    )


def dsmn(model: str) -> StudentRecipe:
    """A DSMN as published: both tasks, mixup, no teachers; the best weights are kept.

    OURS: Adam with a warm-up, where RAdam rectifies its first steps itself; the cosine from and to
    0; one narrow mask per axis instead of two; mixup to the end on the whole batch; no spectrum
    modulation, which is the way `modulated`; no sixth block.
    """
    return StudentRecipe(
        name=model,
        model=model,
        arguments={"sixth_block": False},
        front_end=ARCHITECTURES[model].front_end,
        augmentation=Augmentation(max_masked_bands=2, max_masked_frames=2),
        training=TrainingRecipe(
            max_epochs=100,
            batch_size=32,
            peak_learning_rate=1e-3,
            weight_decay=0.0,
            optimizer="adam",
            # 5 epochs of 139,620 clips.
            schedule=WarmupCosine(warmup_steps=21_820),
            keep="best",
        ),
        distillation=None,
        device_loss_weight=0.0,
        mixup=Mixup(alpha=0.2),
        two_tasks=True,
    )


def tf_sepnet() -> StudentRecipe:
    """TF-SepNet-64 as entered to DCASE 2024, with soft labels.

    OURS: one cosine over the run, where it restarts after 10, 30 and 70 epochs; the soft labels' loss
    averaged over the batch; the last epoch's weights, where the best on the test clips are kept.
    """
    return StudentRecipe(
        name="tf_sepnet",
        model="tf_sepnet",
        front_end=ARCHITECTURES["tf_sepnet"].front_end,
        augmentation=Augmentation(
            impulse_response_probability=0.4, mixstyle_probability=0.8, mixstyle_alpha=0.4
        ),
        training=TrainingRecipe(
            max_epochs=150,
            batch_size=256,
            peak_learning_rate=4e-3,
            weight_decay=0.0,
            optimizer="adam",
            schedule=WarmupCosine(warmup_steps=0),
        ),
        distillation=Distillation(),
        device_loss_weight=0.0,
        mixup=Mixup(alpha=0.3),
    )


def tf_sepnet_40() -> StudentRecipe:
    """TF-SepNet-40 as in its paper: without teachers and impulse responses."""
    return replace(
        tf_sepnet(),
        name="tf_sepnet_40",
        model="tf_sepnet_40",
        front_end=ARCHITECTURES["tf_sepnet_40"].front_end,
        augmentation=Augmentation(mixstyle_probability=0.7, mixstyle_alpha=0.3),
        training=TrainingRecipe(
            max_epochs=100,
            batch_size=32,
            peak_learning_rate=1e-2,
            weight_decay=0.0,
            optimizer="adam",
            # 5 epochs of 139,620 clips.
            schedule=WarmupCosine(warmup_steps=21_820),
        ),
        distillation=None,
    )


def cnn_gru() -> StudentRecipe:
    """CNN-GRU as entered to DCASE 2025: without teachers.

    OURS: the cosine goes down to 0, where it ends at a tenth of the peak; gradients are not clipped; the last
    epoch's weights, where the best on the test clips are kept.
    """
    return StudentRecipe(
        name="cnn_gru",
        model="cnn_gru",
        front_end=ARCHITECTURES["cnn_gru"].front_end,
        augmentation=Augmentation(
            impulse_response_probability=0.4,
            max_masked_bands=48,
            mixstyle_probability=0.4,
            mixstyle_alpha=0.3,
        ),
        training=TrainingRecipe(
            max_epochs=150,
            batch_size=256,
            peak_learning_rate=2e-3,
            weight_decay=0.0,
            optimizer="adam",
            schedule=WarmupCosine(warmup_steps=20),
        ),
        distillation=None,
        device_loss_weight=0.0,
    )


def rep_mobile() -> StudentRecipe:
    """Rep-Mobile trained as the BCBL students are (OURS): its own settings were not at hand."""
    return replace(bcbl(32), name="rep_mobile", model="rep_mobile", arguments={})


def shorten(recipe: StudentRecipe) -> StudentRecipe:
    """Return the same student for a few hundred clips: small batches, a short warm-up (OURS)."""
    few = demo_isotropic().training
    training = replace(
        recipe.training,
        max_epochs=few.max_epochs,
        batch_size=few.batch_size,
        schedule=few.schedule,
        clips_per_epoch=few.clips_per_epoch,
    )
    return replace(recipe, name=f"demo_{recipe.name}", training=training)


def demo_tf_sepnet() -> StudentRecipe:
    """TF-SepNet-40 for a few hundred clips (OURS): a quarter of the work of 64 channels, taught as those are."""
    return replace(
        shorten(tf_sepnet()),
        model="tf_sepnet_40",
        front_end=ARCHITECTURES["tf_sepnet_40"].front_end,
    )


def drop_teachers(recipe: StudentRecipe) -> StudentRecipe:
    """Return the baseline: the same student, trained in the same way, but without teachers."""
    return replace(recipe, name=f"{recipe.name}_alone", distillation=None)


_ASCDOMAIN_MODELS = (
    "isotropic_v2",
    "isotropic_v3",
    "isotropic_noact",
    "isotropic_mix",
    "recursive",
    "recursive_2x2",
    "recursive_2x3",
    "recursive_3x2",
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        isotropic_ascdomain(),
        isotropic(),
        demo_isotropic(),
        tiny_isotropic(),
        small_isotropic(),
        isotropic_rsc(),
        isotropic_adversarial(),
        *(ascdomain_student(model) for model in _ASCDOMAIN_MODELS),
        dcase24_baseline(),
        *(bcbl(base_channels) for base_channels in (8, 16, 24, 32)),
        bcbl24_44k(),
        cp_mobile_2023(),
        *(dsmn(f"dsmn_model{number}") for number in (1, 2, 3)),
        tf_sepnet(),
        tf_sepnet_40(),
        cnn_gru(),
        rep_mobile(),
        demo_tf_sepnet(),
        *(shorten(recipe) for recipe in (cnn_gru(), rep_mobile())),
    )
}
"""Model 4 of DSMN and TF-SepNet-80 have no recipe: they are over the limit even in int8."""
# Its results are called recursive, whichever name was typed.
RECIPES["siren"] = RECIPES["recursive"]
