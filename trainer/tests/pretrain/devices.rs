//! Several devices: their gradients are those of their parts, added up, and a run on them goes as
//! one that takes the parts one after the other.

use std::sync::Arc;

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::prelude::*;
use sfm_trainer::config;
use sfm_trainer::data::windows::{Batch, Loader, Order, Shape, WindowIndex};
use sfm_trainer::loss::contrastive::{Contrast, normalized};
use sfm_trainer::pretrain::{Comparison, Devices, Pretrainer, Sum};
use sfm_trainer::recipe::Recipe;

use crate::cohort::Cohort;
use crate::runs::{logged, losses, weights};

type Train = Autodiff<Flex>;

/// All gradients, parameter after parameter; zeros where there is none.
fn flat(module: &Pretrainer<Train>, gradients: &GradientsParams) -> Vec<f32> {
    struct Collect<'a>(&'a GradientsParams, Vec<f32>);
    impl ModuleVisitor<Train> for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Train, D>>) {
            let count = param.val().shape().num_elements();
            match self.0.get::<Flex, D>(param.id) {
                Some(gradient) => self.1.extend(gradient.into_data().to_vec::<f32>().unwrap()),
                None => self.1.resize(self.1.len() + count, 0.0),
            }
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    module.visit(&mut collect);
    collect.1
}

/// Every weight and running statistic.
fn values(module: &Pretrainer<Train>) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor<Flex> for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
            self.0.extend(param.val().into_data().to_vec::<f32>().unwrap());
        }
    }
    let mut collect = Collect(Vec::new());
    module.valid().visit(&mut collect);
    collect.0
}

/// Loss and gradients of a batch, by burn's own operations.
fn plainly(module: &Pretrainer<Train>, batch: &Batch, of: Comparison<'_>) -> (f64, Vec<f32>) {
    let embedded = module.forward(batch, of.shape, &Default::default()).unwrap();
    let loss = Contrast::new(
        of.objective,
        normalized(embedded.embeddings),
        embedded.present,
        module.temperature.val(),
    )
    .loss();
    let value = loss.clone().into_scalar().elem::<f64>();
    let gradients = GradientsParams::from_grads(loss.backward(), module);
    (value, flat(module, &gradients))
}

#[test]
fn the_gradients_of_two_devices_are_those_of_two_batches_added_up() {
    let cohort = Cohort::new();
    let mut recipe: Recipe = config::read(&cohort.path("run.toml")).unwrap();
    recipe.network.dropout = 0.0;
    let shape = Shape::of(&recipe.network);
    let names: Vec<String> = (0..4).map(|i| format!("sim/night-{i}.hdf5")).collect();
    let index = WindowIndex::open(&cohort.path("store"), &names, shape).unwrap();
    let index = Arc::new(index);
    let order = Order { batch_size: 8, seed: 5 };
    let batches: Vec<Batch> =
        Loader::start(&index, order, None, (0, 2), 1).map(Result::unwrap).collect();
    let comparison = Comparison { objective: recipe.pretrain.objective, shape: index.shape() };

    let device = Default::default();
    let start = Pretrainer::<Train>::new(&recipe.network, 1.0, &device);
    let copy = || Pretrainer::<Train>::from_inner(start.valid());
    let parts: Vec<(f64, Vec<f32>)> =
        batches.iter().map(|batch| plainly(&copy(), batch, comparison)).collect();
    assert!((parts[0].0 - parts[1].0).abs() > 1e-4, "the batches differ");

    let devices = Devices::<Train>::new(&device, 2);
    assert_eq!(devices.len(), 2);
    let module = copy();
    let copies = devices.copies(&module);
    let given: Vec<(Batch, u64)> = batches.iter().cloned().zip(0..).collect();
    let mut sum = Sum::default();
    devices.add(&mut sum, &module, &copies, &given, comparison);
    assert_eq!(sum.losses, [parts[0].0, parts[1].0]);
    let own = flat(&module, &sum.gradients());
    let largest = own.iter().fold(0.0_f32, |most, g| most.max(g.abs()));
    assert!(largest > 1e-3);
    for (own, (a, b)) in own.iter().zip(parts[0].1.iter().zip(&parts[1].1)) {
        assert!((own - (a + b)).abs() <= 1e-6 * largest, "{own}, not {a} + {b}");
    }

    // The first device's running statistics have seen its part and no other.
    let first = copy();
    plainly(&first, &batches[0], comparison);
    assert_eq!(values(&module), values(&first));
    let second = copy();
    plainly(&second, &batches[1], comparison);
    assert_eq!(values(&copies[0]), values(&second));
    assert_ne!(values(&first), values(&second));
}

#[test]
fn a_run_on_two_devices_takes_the_steps_of_its_parts_and_resumes() {
    let cohort = Cohort::new();
    let said = cohort.pretrain("two", &["--batch-size", "16", "--devices", "2"]);
    assert!(said.contains("as 2 devices one after the other"), "{said}");
    cohort.configure("batch_size = 8", "batch_size = 8\naccumulate = 2");
    cohort.pretrain("parts", &[]);
    let (two, parts) =
        (losses(&cohort.path("two"), "train"), losses(&cohort.path("parts"), "train"));
    assert_eq!((two.len(), parts.len()), (10, 10));
    for (two, parts) in two.iter().zip(&parts) {
        assert!((two - parts).abs() < 1e-5 * parts, "{two}, not {parts}");
    }

    cohort.configure("batch_size = 8", "batch_size = 16\ndevices = 2");
    cohort.pretrain("stopped", &["--stop-after", "5"]);
    cohort.pretrain("stopped", &["--resume"]);
    assert_eq!(logged(&cohort.path("stopped")), logged(&cohort.path("two")));
    let last = |run: &str| weights(&cohort.path(run).join("last.ckpt"));
    assert!(last("stopped") == last("two"), "other weights");
    let said = cohort.refused("stopped", &["--resume", "--devices", "4"], 2);
    assert!(said.contains("was begun with another [pretrain]"), "{said}");
}

#[test]
fn devices_that_cannot_share_a_batch_or_are_not_there() {
    let cohort = Cohort::new();
    for (devices, wanted) in [
        ("0", "devices is 0, not in 1 to 64"),
        ("65", "devices is 65, not in 1 to 64"),
        ("3", "batch_size is 8, which 3 devices cannot share in equal parts"),
        ("8", "batch_size is 8, which 8 devices cannot share in equal parts of two windows"),
    ] {
        let said = cohort.refused("run", &["--devices", devices], 2);
        assert!(said.contains(wanted), "{said}");
    }
    assert!(!cohort.path("run").exists());
}
