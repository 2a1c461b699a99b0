const form = document.querySelector('form');
const answers = document.querySelector('#answers');

const { policies } = await (await fetch('api/policies')).json();
form.policy.append(...policies.map(({ name }) => new Option(name)));

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const asked = { question: form.question.value, policy: form.policy.value };
  form.question.value = '';
  const item = document.createElement('li');
  item.append(part('p', asked.question));
  answers.prepend(item);
  const response = await fetch('api/chat', { method: 'POST', body: JSON.stringify(asked) });
  const { answer, label, model, error } = await response.json();
  item.append(part('p', answer ?? error), part('small', model ? `${label}, by ${model}` : 'not answered'));
});

function part(kind, text) {
  return Object.assign(document.createElement(kind), { textContent: text });
}
